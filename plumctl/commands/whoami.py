"""plumctl whoami"""

from __future__ import annotations

from collections.abc import Sequence

from plumctl import options, output
from plumctl.access_answers import Whoami
from plumctl.locate import connect
from plumctl.output import Column

app = options.new_app()

_COLUMNS: Sequence[Column[Whoami]] = (Column("NAME", lambda who: who.name),)


@app.command(
    epilog=options.examples(
        "plumctl whoami",
        "plumctl --token-file ~/.plum-token whoami",
        "plumctl whoami -o jsonpath=.role",
    )
)
def whoami(format: options.Format = "table", socket: options.Socket = None) -> None:
    """Who the daemon takes you for, and in which role."""
    out = output.Output(format)
    who = connect(socket).whoami()
    if not out.is_table:
        out.rows([who], _COLUMNS, whole=who.document, name=lambda who: who.name)
        return
    pairs = [("Name", who.name), ("Known by", _WAYS.get(who.kind, who.kind)), ("Role", who.role)]
    if who.tenant:
        pairs.append(("Tenant", who.tenant))
    if who.expires:
        pairs.append(("Expires", who.expires))
    output.details([*pairs, ("From", who.source)])


_WAYS = {"local": "the unix socket", "node": "a node's certificate", "user": "a token"}
