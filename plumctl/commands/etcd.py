"""plumctl etcd"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from plumctl import asking, enrolling, options, output
from plumctl.output import Column

Row = Mapping[str, Any]

app = options.new_app("Members of the zone's own etcd (plumctl zone init --etcd).")
MIB = 2**20
MEMBERS: tuple[Column[Row], ...] = (
    Column("NAME", lambda row: str(row["name"])),
    Column("ENDPOINT", lambda row: str(row["endpoint"])),
    Column("STATE", lambda row: str(row["state"])),
    Column("VERSION", lambda row: str(row["version"] or "")),
    Column("SIZE", lambda row: _size(row["db_bytes"]), right=True),
)


def _size(size: int | None) -> str:
    return "" if size is None else f"{size / MIB:.1f} MiB"


@app.command("list", epilog=options.examples("plumctl etcd list", "plumctl etcd list -o json"))
def list_(
    state_dir: enrolling.StateDir = enrolling.DEFAULT_STATE_DIR,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
) -> None:
    """Who they are, and how each of them fares."""
    _emit(enrolling.of_root("etcd_member", "list", {"state-dir": state_dir}), format, no_headers)


@app.command(epilog=options.examples("plumctl etcd add"))
def add(
    state_dir: enrolling.StateDir = enrolling.DEFAULT_STATE_DIR,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
) -> None:
    """Run another member, on this machine: a node of the zone. There should be three.

    It gets its vote when it has all data. Broken off, it goes on when run again.
    """
    from plumctl.progress import working

    with working("adding a member"):
        rows = enrolling.of_root("etcd_member", "add", {"state-dir": state_dir})
    _emit(rows, format, no_headers)


@app.command(epilog=options.examples("plumctl etcd remove n3"))
def remove(
    node: Annotated[str, typer.Argument(metavar="NODE", show_default=False)],
    yes: options.Yes = False,
    state_dir: enrolling.StateDir = enrolling.DEFAULT_STATE_DIR,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
) -> None:
    """Take a member out, also one that is dead. Refused where the others could not go on."""
    asking.sure(f"The etcd on {node} keeps the zone's state no more.", yes=yes)
    given = {"state-dir": state_dir, "node": node}
    _emit(enrolling.of_root("etcd_member", "remove", given), format, no_headers)
    output.note(f"If {node} is another machine, on it: systemctl disable --now plum-etcd")


def _emit(rows: list[Row], format: str, no_headers: bool) -> None:
    out = output.Output(format, headers=not no_headers)
    out.rows(rows, MEMBERS, whole={"items": rows}, name=lambda row: str(row["name"]))
