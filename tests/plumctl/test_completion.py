from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from plumctl.shells import SHELLS, script

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("shell", SHELLS)
def test_committed_scripts_are_fresh(shell: str) -> None:
    path = ROOT / "completions" / f"plumctl.{shell}"
    assert path.read_text() == script(shell), "run: python completions/generate.py"


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_the_shells_syntax(shell: str, plumctl: Any) -> None:
    assert plumctl("completion", shell).out == script(shell)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run(
        [shell, "-n", str(ROOT / "completions" / f"plumctl.{shell}")], check=True, timeout=30
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("plumctl hi", {"history"}),
        ("plumctl endpoint ", {"create", "delete"}),
        ("plumctl get ", {"endpoint", "domain", "tenant", "node"}),
        ("plumctl get ep acme/shop/w", {"acme/shop/web-1"}),
        ("plumctl describe ep db", {"db-1"}),
        ("plumctl get endpoint --tenant ", {"acme", "zeta"}),
        ("plumctl get --tenant acme domain ", {"acme/shop", "zeta/shop"}),
        ("plumctl sandbox exec ze", {"zeta/shop/web-1"}),
        ("plumctl get ep -o j", {"json", "jsonpath="}),
        ("plumctl rollback --dry", {"--dry-run"}),
        ("plumctl sandbox exec web-1 -- ", set()),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_shells_complete_commands_options_and_names(
    line: str, words: set[str], shell: str, shop: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    binary = tmp_path / "plumctl"
    import sys

    binary.write_text(f'#!/bin/sh\nexec {sys.executable} -m plumctl "$@"\n')
    binary.chmod(0o755)
    completions = ROOT / "completions" / f"plumctl.{shell}"
    if shell == "fish":
        command = f"source {completions}; complete -C '{line}'"
    else:
        command = (
            f"source {completions}; COMP_LINE='{line}'; COMP_WORDS=({line}); "
            "[[ $COMP_LINE == *' ' ]] && COMP_WORDS+=(''); "
            "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); compopt() { :; }; "
            "_plumctl; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
    done = subprocess.run(
        [shell, "-c", command],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=environment | {"PATH": f"{tmp_path}:{environment['PATH']}", "HOME": str(tmp_path)},
    )
    found = {item.split("\t")[0] for item in done.stdout.splitlines() if item}
    assert found == words


def test_completion_is_quiet_without_a_daemon(plumctl: Any) -> None:
    done = plumctl("_complete", "endpoint", "web")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_only_what_a_name_can_hold_is_completed(plumctl: Any, zone: Any) -> None:
    for name in ("$(reboot)", "a b", "\x1b[2J", "good"):
        zone.put({"kind": "tenant", "name": name, "spec": {}})
    assert plumctl("_complete", "tenant", "").lines == ["good"]
