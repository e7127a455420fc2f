"""plumctl zone migrate"""

from __future__ import annotations

from typing import Annotated

import typer

from plumctl import options, output
from plumctl.commands.zone_backup import RESTORED

app = options.new_app()


@app.command(
    epilog=options.examples(
        "plumctl zone migrate sqlite:///var/lib/plum/store.db \\",
        "    'etcd://192.0.2.1:2379,192.0.2.2:2379?ca=ca.pem&cert=node.pem&key=node.key'",
    )
)
def migrate(
    source: Annotated[str, typer.Argument(metavar="FROM", help="URL of the store in use.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="URL of an empty store.")],
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
) -> None:
    """Move the zone to another store: copied, compared key by key, the old one closed.

    Nodes go on forwarding. From then on the old store takes no change of the zone, and
    says where it has gone. Broken off, it goes on when run again.
    """
    from plumctl import offline
    from plumctl.progress import working

    out = output.Output(format, headers=not no_headers)
    with working("moving the zone"):
        moved = offline.migrate(source, target)
    out.rows([moved], RESTORED, whole=moved.document, name=lambda done: str(done.revision))
    output.note("Now start every plumd with --store and the new URL; until then they wait.")
