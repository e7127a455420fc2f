"""The part of JSONPath that `-o jsonpath=EXPR` speaks.

    .name  ['odd name']  [0]  [-1]  [1:3]  [*]  .*  ..name

`$` or nothing stands for the whole. With braces it is a template, as in
kubectl: text is kept, each `{...}` is replaced by its matches, joined by a
space; `{"\\n"}` and `{"\\t"}` give the control character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from plumctl.errors import ExitCode, PlumError
from plumctl.text import inert

_STEP = re.compile(
    r"""(?P<deep>\.\.)(?P<deep_name>[\w-]+)
    | \.(?P<name>[\w-]+)
    | (?P<star>\.\*|\[\*\])
    | \[(?P<quoted>'[^']*'|"[^"]*")\]
    | \[(?P<slice>-?\d*:-?\d*)\]
    | \[(?P<index>-?\d+)\]
    """,
    re.VERBOSE,
)
_BRACES = re.compile(r"\{([^{}]*)\}")


def render(expression: str, value: object) -> str:
    """The text for `-o jsonpath=`: one match per line, or the template filled in."""
    if "{" not in expression:
        return "\n".join(_text(match) for match in find(expression, value))
    filled = _BRACES.sub(lambda match: _fill(match.group(1).strip(), value), expression)
    if "{" in _BRACES.sub("", expression):
        raise _invalid(expression, "a `{` is not closed")
    return filled


def find(expression: str, value: object) -> list[object]:
    """Every match, in document order; a missing key matches nothing."""
    rest = expression.removeprefix("$")
    if rest in ("", "."):
        return [value]
    if rest[0] not in ".[":
        rest = "." + rest
    found = [value]
    position = 0
    while position < len(rest):
        step = _STEP.match(rest, position)
        if step is None:
            raise _invalid(expression, f"cannot read it from {rest[position:]!r}")
        found = [result for item in found for result in _step(step, item)]
        position = step.end()
    return found


def _fill(inner: str, value: object) -> str:
    if len(inner) >= 2 and inner[0] == inner[-1] == '"':
        return inner[1:-1].replace("\\n", "\n").replace("\\t", "\t")
    return " ".join(_text(match) for match in find(inner, value))


def _step(step: re.Match[str], item: object) -> Iterator[object]:
    if step["deep"]:
        yield from _descend(step["deep_name"], item)
    elif step["star"]:
        yield from _children(item)
    elif step["slice"]:
        if isinstance(item, list):
            first, _, last = step["slice"].partition(":")
            yield from item[int(first) if first else None : int(last) if last else None]
    elif step["index"]:
        index = int(step["index"])
        if isinstance(item, list) and -len(item) <= index < len(item):
            yield item[index]
    else:
        key = step["name"] or step["quoted"][1:-1]
        if isinstance(item, dict) and key in item:
            yield item[key]


def _descend(name: str, item: object) -> Iterator[object]:
    if isinstance(item, dict) and name in item:
        yield item[name]
    for child in _children(item):
        yield from _descend(name, child)


def _children(item: object) -> Iterator[object]:
    if isinstance(item, dict):
        yield from item.values()
    elif isinstance(item, list):
        yield from item


def _text(match: object) -> str:
    if isinstance(match, str):
        return inert(match)
    return json.dumps(match).replace("\x7f", "\\u007f")


def _invalid(expression: str, why: str) -> PlumError:
    return PlumError(
        f"jsonpath {expression!r}: {why}",
        "for example: -o 'jsonpath={.items[*].name}' or -o jsonpath=.spec.node",
        ExitCode.USAGE,
    )
