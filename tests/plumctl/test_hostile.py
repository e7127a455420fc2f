"""Text that somebody else chose: shown, never obeyed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plumctl.text import inert, width_columns

HOSTILE = "\x1b[31mred\x1b[0m\r\nfake row\x07\x9b2J\u202e[bold]x[/bold]\x7f"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web-1", "web-1"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202eabc\u200b", "\\u202eabc\\u200b"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
        ("Zürich 東京", "Zürich 東京"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_control_characters_become_visible(text: str, shown: str) -> None:
    assert inert(text) == shown


def test_wide_characters_count_two_columns() -> None:
    assert width_columns("東京") == 4
    assert width_columns("e\u0301") == 1


@pytest.mark.parametrize(
    "argv",
    [
        ("get", "tenant"),
        ("get", "tenant", "-o", "wide"),
        ("get", "tenant", "-o", "json"),
        ("get", "tenant", "-o", "yaml"),
        ("get", "tenant", "-o", "name"),
        ("get", "tenant", "-o", "jsonpath=.items[*].name"),
        ("describe", "tenant", HOSTILE.replace("/", "-")),
        ("export",),
        ("history",),
        ("get", "tenant", "evil"),
        ("rules",),
        ("drops",),
        ("status",),
    ],
    ids=" ".join,
)
def test_no_command_lets_control_characters_through(
    plumctl: Any, zone: Any, argv: tuple[str, ...]
) -> None:
    name = HOSTILE.replace("/", "-")
    zone.put({"kind": "tenant", "name": name, "spec": {"description": HOSTILE}}, "error", HOSTILE)
    zone.counters = {
        "nodes": {
            "n1": {
                "rules": [{"domain": HOSTILE, "policy": HOSTILE, "rule": HOSTILE, "hits": 1}],
                "drops": [{"reason": HOSTILE, "endpoint": HOSTILE, "packets": 1}],
            },
            "n2": {"error": HOSTILE},
        }
    }
    zone.repairs = [{"time": "now", "what": HOSTILE}]
    plumctl("apply", "-f", "-", "--comment", HOSTILE, stdin="kind: tenant\nname: acme\n")
    done = plumctl(*argv)
    assert "red" in done.out + done.err or argv[-1] == "evil"
    for text in (done.out, done.err):
        assert all(char == "\n" or char.isprintable() for char in text), repr(text)
    assert "\nfake row" not in done.out


def test_names_that_look_like_options_are_data(plumctl: Any, zone: Any) -> None:
    zone.put({"kind": "tenant", "name": "--help", "spec": {}})
    assert plumctl("get", "tenant", "-o", "name", "--", "--help").out == "--help\n"
    (missing := plumctl("apply", "-f", "-dash.yaml"))
    assert missing.code == 1
    assert "cannot read -dash.yaml" in missing.err


def test_a_file_named_with_escapes_is_shown_inert(plumctl: Any, zone: Any, tmp_path: Path) -> None:
    (tmp_path / "\x1b[2J.yaml").write_text("kind: nothing")
    done = plumctl("apply", "-f", "\x1b[2J.yaml")
    assert "\\x1b[2J.yaml: document 1" in done.err
    assert "\x1b" not in done.err


def test_json_is_whole_however_long(plumctl: Any, zone: Any) -> None:
    zone.put({"kind": "tenant", "name": "acme", "spec": {"description": "x" * 5000}})
    assert "x" * 5000 in plumctl("get", "tenant", COLUMNS="40").out
    assert json.loads(plumctl("get", "tenant", "acme", "-o", "json").out)["name"] == "acme"


def test_a_reader_that_goes_away_is_no_error(zone: Any, environment: dict[str, str]) -> None:
    for number in range(3000):
        zone.put({"kind": "tenant", "name": f"t{number}", "spec": {}})
    command = f"{sys.executable} -m plumctl get tenant | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[1] in ("0", "141")


def test_colour_only_on_a_terminal_and_without_no_color(
    shop: Any, environment: dict[str, str]
) -> None:
    assert "\x1b[32mprogrammed\x1b[0m" in _on_terminal(environment)
    assert "\x1b" not in _on_terminal(environment | {"NO_COLOR": "1"})
    assert "Next: plumctl describe endpoint acme/shop/db-1" in _on_terminal(environment)


def _on_terminal(environment: dict[str, str]) -> str:
    leader, follower = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "plumctl", "get", "ep"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        check=True,
        timeout=30,
        env={key: value for key, value in environment.items() if key != "NO_COLOR"}
        | {"TERM": "xterm"}
        | {k: v for k, v in environment.items() if k == "NO_COLOR"},
    )
    os.close(follower)
    with os.fdopen(leader, "rb", closefd=True) as stream:
        return stream.read1(65536).decode()
