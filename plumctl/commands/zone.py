"""plumctl zone"""

from __future__ import annotations

from plumctl import options
from plumctl.commands import zone_backup

app = options.new_app("Back the zone up and restore it.")
app.add_typer(zone_backup.app)
