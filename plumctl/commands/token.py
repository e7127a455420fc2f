"""plumctl token"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated

import typer

from plumctl import duration, options, output, token_file
from plumctl.access_answers import Token
from plumctl.errors import ExitCode, PlumError
from plumctl.locate import connect
from plumctl.output import Column

app = options.new_app("Tokens: what users show where no unix socket tells who they are.")

_COLUMNS: Sequence[Column[Token]] = (
    Column("TOKEN", lambda token: token.id),
    Column("USER", lambda token: token.user),
    Column("VALID", lambda token: "yes" if token.valid else "no"),
    Column("EXPIRES", lambda token: token.expires),
    Column("COMMENT", lambda token: token.comment),
    Column("CREATED", lambda token: token.created, wide=True),
)


@app.command(
    epilog=options.examples(
        "plumctl token create ann --out ann.token",
        "plumctl token create ci --expires 12h --comment 'build 4711' --out /run/ci/token",
    )
)
def create(
    user: Annotated[str, typer.Argument(metavar="USER", help="Whose it is to be.")],
    expires: Annotated[
        str,
        typer.Option("--expires", metavar="TIME", help="From now: 90m, 12h, 30d; at most 366d."),
    ] = "30d",
    out_file: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write it there, readable by you alone, not to the screen.",
        ),
    ] = None,
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="What it is for.")] = "",
    format: options.Format = "table",
    socket: options.Socket = None,
) -> None:
    """Make a token. This is the only time it is shown."""
    out = output.Output(format)
    life_s = duration.seconds(expires)
    client = connect(socket)
    with ExitStack() as stack:
        file = stack.enter_context(token_file.NewFile(out_file)) if out_file else None
        made = client.create_token(user, life_s, comment)
        if file is not None:
            file.write(made.secret)
    if out_file:
        _emit(out, made.token)
    elif out.is_table:
        output.line(made.secret)
    else:
        out.rows([made], (), whole=made.document, name=lambda made: made.secret)
    said = f"Token {made.token.id} of {made.token.user} expires {made.token.expires}."
    output.note(said if out_file else f"{said} It is not shown again.")


@app.command(epilog=options.examples("plumctl token get", "plumctl token get --user ann"))
def get(
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="Only of this user.")
    ] = None,
    format: options.Format = "table",
    no_headers: options.NoHeaders = False,
    socket: options.Socket = None,
) -> None:
    """List tokens, without their secrets: only hashes are kept."""
    out = output.Output(format, headers=not no_headers)
    found = connect(socket).tokens(user)
    whole = {"items": [token.document for token in found]}
    out.rows(found, _COLUMNS, whole=whole, name=lambda token: token.id, empty="No tokens.")


@app.command(epilog=options.examples("plumctl token revoke 3f2a9c0d11e07b45"))
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, as `token get` lists it.")],
    format: options.Format = "table",
    socket: options.Socket = None,
) -> None:
    """End a token now."""
    if token.startswith("plumtok_"):
        raise PlumError(
            "that is a whole token, and now it stands in your shell's history",
            f"give its id only: plumctl token revoke {token.split('_')[1]}",
            ExitCode.USAGE,
        )
    out = output.Output(format)
    ended = connect(socket).revoke_token(token)
    if out.is_table:
        output.note(f"Token {ended.id} of {ended.user} is revoked.")
    else:
        _emit(out, ended)


def _emit(out: output.Output, token: Token) -> None:
    out.rows([token], _COLUMNS, whole=token.document, name=lambda token: token.id)
