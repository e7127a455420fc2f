"""plumctl zone"""

from __future__ import annotations

from plumctl import options
from plumctl.commands import zone_backup, zone_init, zone_migrate, zone_rotate_ca, zone_show

app = options.new_app(
    "Make a zone, look at it, back it up, restore it, move it, change its authority."
)
for module in (zone_init, zone_show, zone_backup, zone_migrate, zone_rotate_ca):
    app.add_typer(module.app)
