"""plumctl zone backup, plumctl zone restore"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from plumctl import asking, options, output
from plumctl.answers import Restored
from plumctl.errors import ExitCode, PlumError
from plumctl.locate import connect
from plumctl.output import Column

app = options.new_app()

Store = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="Straight on this store, when no daemon runs on it."
    ),
]


@app.command(
    epilog=options.examples(
        "plumctl zone backup /var/backups/plum/monday",
        "plumctl zone backup - | gpg --encrypt -r ops > monday.gpg",
        "plumctl zone backup monday --store sqlite:///var/lib/plum/store.db",
    )
)
def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A new file, or - for stdout.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    store: Store = None,
    socket: options.Socket = None,
) -> None:
    """Write everything that lasts, as it was at one revision, to a file only you can read.

    In it: objects, allocations, history, users, and tokens as hashes. Not in it: keys and
    certificates (/var/lib/plum/trust: keep the directors' copy apart), what nodes report of
    themselves, and invitations to join.
    """
    from daemon.model.backup import BackupError, read
    from plumctl import offline, writing
    from plumctl.progress import working

    if file != "-" and not force and Path(file).exists():
        raise PlumError(
            f"{file} exists", "name another file, or give --force to replace it", ExitCode.CONFLICT
        )
    with working("reading the zone"):
        lines = offline.backup(store) if store else connect(socket).backup()
    try:
        header, _ = read(lines)
    except BackupError as error:
        raise PlumError(f"the daemon broke off: {error}", "try again; its log says more") from error
    if file == "-":
        writing.to_stdout(lines)
    else:
        writing.private(Path(file), lines)
    output.note(f"{header.keys} keys at revision {header.revision}, {len(lines):,} bytes.")


@app.command(
    epilog=options.examples(
        "plumctl zone restore monday                  # into an empty store",
        "plumctl zone restore monday --replace        # in place of what is there",
        "plumctl zone restore monday --store sqlite:///var/lib/plum/store.db",
    )
)
def restore(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Of zone backup, or - for stdin.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of the zone that the store holds.")
    ] = False,
    other_zone: Annotated[
        bool, typer.Option("--other-zone", help="Also the backup of another zone.")
    ] = False,
    yes: options.Yes = False,
    store: Store = None,
    wait: options.Wait = False,
    timeout: options.Timeout = options.DEFAULT_WAIT_S,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """Bring the zone to what a backup holds: all of it, or nothing.

    Nodes wait until it is done, forwarding as they did, and then take what changed.
    Should it break off in the middle they go on waiting: run it again with --replace.
    """
    from daemon.model.backup import BackupError, read
    from plumctl import applying, offline, writing
    from plumctl.progress import working

    out = output.Output(format, headers=not no_headers)
    lines = writing.read(file)
    try:
        header, _ = read(lines)
    except BackupError as error:
        raise PlumError(f"{file}: {error.message}", error.hint) from error
    if replace:
        asking.sure(
            f"The zone becomes what it was at {header.created} (revision {header.revision}); "
            "what was made since is lost.",
            yes=yes,
            stdin_is_data=file == "-",
        )
    with working("restoring the zone"):
        if store:
            restored = offline.restore(store, lines, replace=replace, other_zone=other_zone)
        else:
            client = connect(socket)
            restored = client.restore(lines, replace=replace, other_zone=other_zone)
    out.rows([restored], RESTORED, whole=restored.document, name=lambda done: str(done.revision))
    if wait and not store:
        applying.wait(client, restored.revision, timeout)
    output.suggest("plumctl get node")


RESTORED: Sequence[Column[Restored]] = (
    Column("KEYS", lambda done: str(done.keys), right=True),
    Column("WRITTEN", lambda done: str(done.written), right=True),
    Column("DELETED", lambda done: str(done.deleted), right=True),
    Column("REVISION", lambda done: str(done.revision), right=True),
)
