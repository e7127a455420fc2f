"""plumctl node"""

from __future__ import annotations

from plumctl import options
from plumctl.commands import node_cordon, node_drain, node_remove

app = options.new_app("Empty nodes and take them out of the zone.")
for module in (node_cordon, node_drain, node_remove):
    app.add_typer(module.app)
