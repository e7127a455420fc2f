"""What is written is read back the same, by YAML 1.2 and 1.1 alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from daemon.model.yaml_text import load_yaml, to_yaml

TRICKY = (
    "no", "Yes", "off", "null", "~", "true", "010", "0x1f", "1e3", ".inf", "12:34:56", "1_0",
    "2026-11-23", "02:65:00:00:00:01", "10.0.0.1", "10.0.0.0/8", "fd00::", "fd00::1", "::1",
    "fd00::/64", "1::2:3", "a: b", "a #b", "- a", "? a", "&a", "*a", "!a", "%a", "@a", "=", "<<",
    "", " ", "a ", "a\nb", "\t", "\u2028", "\x85", "\x7f", "\ufeff", "\U0001f600", "8000-8080",
)  # fmt: skip
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.text(), st.sampled_from(TRICKY)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        # YAML takes no key of more than 1,024 characters, escapes included
        st.dictionaries(
            st.one_of(st.text(max_size=60), st.sampled_from(TRICKY)), inner, max_size=4
        ),
    ),
    max_leaves=12,
)


def read(text: str) -> object:
    (document,) = load_yaml(text)
    assert document.problems == []
    return document.data


@given(values)
def test_what_is_written_is_read_back(data: object) -> None:
    assert read(to_yaml(data)) == data


@pytest.mark.parametrize("version", [(1, 1), (1, 2)])
@pytest.mark.parametrize("word", TRICKY)
def test_other_readers_see_text_where_text_was_written(word: str, version: tuple[int, int]) -> None:
    reader = YAML(typ="safe", pure=True)
    reader.version = version
    assert reader.load(to_yaml({"key": word, "list": [word]})) == {"key": word, "list": [word]}


def test_plain_things_are_written_plainly() -> None:
    data = {"bridges": [{"name": "web", "subnets": ["10.0.0.0/24", "fd00::/64"]}], "empty": []}
    assert to_yaml(data) == (
        "bridges:\n  - name: web\n    subnets:\n      - 10.0.0.0/24\n      - fd00::/64\nempty: []\n"
    )
