"""plumctl zone migrate"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from plumctl import options, output
from plumctl.answers import Migrated
from plumctl.output import Column

app = options.new_app()

From = Annotated[
    str, typer.Option("--from", metavar="URL", help="The old store: sqlite:///absolute/path.")
]
To = Annotated[
    str,
    typer.Option(
        "--to", metavar="URL", help="The new: etcd://HOST:PORT,...?ca=FILE&cert=FILE&key=FILE."
    ),
]


@app.command(
    epilog=options.examples(
        "plumctl zone migrate --from sqlite:///var/lib/plum/store.db "
        "--to 'etcd://192.0.2.1:2379,192.0.2.2:2379,192.0.2.3:2379?ca=ca.pem&cert=n1.pem&key=n1.key'"
    )
)
def migrate(
    source: From,
    target: To,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take over where an earlier move broke off.")
    ] = False,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
) -> None:
    """Move a zone from a SQLite file to an empty etcd, as it was at one revision.

    Stop plumd on every node first: nodes forward as they did without it. The file is only
    read, and both are compared at the end. Not moved: what nodes report of themselves, and
    invitations to join.
    """
    from plumctl import offline
    from plumctl.progress import working

    out = output.Output(format, headers=not no_headers)
    with working("moving the zone"):
        moved = offline.migrate(source, target, resume=resume)
    out.rows([moved], _MOVED, whole=moved.document, name=lambda done: str(done.revision))
    output.note("Now start every plumd with the new URL as --store. When all nodes are ready, put")
    output.note("the old file away: a plumd started on it would act on what the zone was.")


_MOVED: Sequence[Column[Migrated]] = (
    Column("KEYS", lambda done: str(done.keys), right=True),
    Column("FROM REVISION", lambda done: str(done.source_revision), right=True),
    Column("REVISION", lambda done: str(done.revision), right=True),
)
