"""plumctl user"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from plumctl import options, output
from plumctl.access_answers import User
from plumctl.locate import connect
from plumctl.output import Column

app = options.new_app("Users of the zone: who they are, and their roles.")

_COLUMNS: Sequence[Column[User]] = (
    Column("USER", lambda user: user.name),
    Column("ROLE", lambda user: user.role),
    Column("TENANT", lambda user: user.tenant),
    Column("COMMENT", lambda user: user.comment),
    Column("CREATED", lambda user: user.created, wide=True),
)

Name = Annotated[str, typer.Argument(metavar="USER", help="Name of the user.")]
ROLE_HELP = "viewer, tenant-operator or zone-admin."
Tenant = Annotated[
    str | None,
    typer.Option("--tenant", "-t", metavar="TENANT", help="Of a tenant-operator."),
]


@app.command(
    epilog=options.examples(
        "plumctl user create ann --role tenant-operator --tenant acme",
        "plumctl user create ci --role viewer --comment 'nightly report'",
    )
)
def create(
    name: Name,
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help=ROLE_HELP)],
    tenant: Tenant = None,
    comment: Annotated[
        str, typer.Option("--comment", metavar="TEXT", help="Who or what this is.")
    ] = "",
    format: options.Format = "table",
    socket: options.Socket = None,
) -> None:
    """Make a user. It can do nothing until it has a token."""
    out = output.Output(format)
    user = connect(socket).create_user(name, role, tenant, comment)
    _emit(out, user)
    output.suggest(f"plumctl token create {user.name} --out FILE")


@app.command(epilog=options.examples("plumctl user get", "plumctl user get ann -o yaml"))
def get(
    name: Annotated[
        str | None, typer.Argument(metavar="USER", help="Only this one (default: all).")
    ] = None,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """List users, or show one."""
    out = output.Output(format, headers=not no_headers)
    client = connect(socket)
    if name is not None:
        _emit(out, client.user(name))
        return
    found = client.users()
    whole = {"items": [user.document for user in found]}
    empty = "No users. Make one: plumctl user create NAME --role ROLE"
    out.rows(found, _COLUMNS, whole=whole, name=lambda user: user.name, empty=empty)


@app.command("set", epilog=options.examples("plumctl user set ann --role viewer"))
def set_(
    name: Name,
    role: Annotated[str | None, typer.Option("--role", metavar="ROLE", help=ROLE_HELP)] = None,
    tenant: Tenant = None,
    comment: Annotated[
        str | None, typer.Option("--comment", metavar="TEXT", help="Who or what this is.")
    ] = None,
    format: options.Format = "table",
    socket: options.Socket = None,
) -> None:
    """Change a user. Its tokens stay good, with the new rights from now on."""
    out = output.Output(format)
    _emit(out, connect(socket).set_user(name, role=role, tenant=tenant, comment=comment))


@app.command(epilog=options.examples("plumctl user delete ann"))
def delete(
    name: Name,
    format: options.Format = "table",
    socket: options.Socket = None,
) -> None:
    """Delete a user and all its tokens. They are not valid from now on."""
    out = output.Output(format)
    user = connect(socket).delete_user(name)
    if out.is_table:
        output.note(f"User {user.name} is deleted.")
    else:
        _emit(out, user)


def _emit(out: output.Output, user: User) -> None:
    out.rows([user], _COLUMNS, whole=user.document, name=lambda user: user.name)
