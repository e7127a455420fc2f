"""plumctl node"""

from __future__ import annotations

from plumctl import options
from plumctl.commands import (
    node_add,
    node_cordon,
    node_drain,
    node_join,
    node_remove,
    node_rotate,
    node_token,
)

app = options.new_app("Take nodes into the zone, empty them, take them out.")
for module in (
    node_token, node_join, node_add, node_rotate, node_cordon, node_drain, node_remove,
):  # fmt: skip
    app.add_typer(module.app)
