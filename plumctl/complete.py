"""What `plumctl _complete KIND [PREFIX]` prints for the shells: object names, fast and quiet."""

from __future__ import annotations

import re
from collections.abc import Sequence

from plumctl.errors import PlumError

#: Seconds a press of Tab may take.
TIMEOUT_S = 1.0

#: A shell evaluates what it completes: print what a name can hold, nothing else.
_SAFE = re.compile(r"[a-z0-9][a-z0-9/-]*")


def candidates(arguments: Sequence[str]) -> list[str]:
    """Full paths of the kind that start with the prefix, and short names that only one has.

    No daemon, no rights, a wrong kind: no candidates, no message.
    """
    from plumctl.locate import connect
    from plumctl.names import kind_of

    prefix = arguments[1] if len(arguments) > 1 else ""
    try:
        kind = kind_of(arguments[0]) if arguments else "endpoint"
        paths = [view.path for view in connect(timeout_s=TIMEOUT_S).list(kind).items]
    except PlumError:
        return []
    words = list(paths)
    if prefix and "/" not in prefix:
        short = [path.rsplit("/", 1)[-1] for path in paths]
        words += [name for name in short if short.count(name) == 1]
    return sorted({word for word in words if word.startswith(prefix) and _SAFE.fullmatch(word)})
