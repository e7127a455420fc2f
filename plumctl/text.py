"""Text from elsewhere made harmless for a terminal, and measured as one shows it."""

from __future__ import annotations

import unicodedata

#: Control, format (bidi overrides, zero width), surrogates, line and paragraph separators.
_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def inert(text: str) -> str:
    """Every character a terminal would obey, written as a visible escape.

    A newline becomes `\\n`, ESC becomes `\\x1b`: a name can then neither move the
    cursor nor forge a row. Text without such characters comes back unchanged.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(char) if unicodedata.category(char) in _UNSAFE else char for char in text
    )


def _escaped(char: str) -> str:
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    if named is not None:
        return named
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def width_columns(text: str) -> int:
    """Columns a terminal needs for the text."""
    if text.isascii():
        return len(text)
    return sum(_char_columns(char) for char in text)


def _char_columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
