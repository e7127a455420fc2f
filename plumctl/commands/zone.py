"""plumctl zone"""

from __future__ import annotations

from plumctl import options
from plumctl.commands import zone_backup, zone_migrate

app = options.new_app("Back the zone up, restore it, move it to another store.")
app.add_typer(zone_backup.app)
app.add_typer(zone_migrate.app)
