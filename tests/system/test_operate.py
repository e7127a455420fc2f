"""docs/operate.md: its rehearsal runs as it stands, and no command in it is made up."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from plumctl.sandbox import zone
from plumctl.sandbox.layout import Layout
from plumctl.shells.tree import verbs

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "operate.md").read_text()
BLOCKS = re.findall(r"^```(sh|console)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_every_plumctl_command_and_option_exists() -> None:
    known = {verb.path: verb for verb in verbs()}
    lines = [line for _, block in BLOCKS for line in block.splitlines()]
    lines += re.findall(r"`(plumctl [a-z][^`]*)`", TEXT)
    found = 0
    for line in lines:
        if not line.startswith("plumctl "):
            continue
        words = shlex.split(line)[1:]
        path = tuple(words[:2]) if tuple(words[:2]) in known else tuple(words[:1])
        assert path in known, line
        options = {name for flag in known[path].flags for name in flag.words}
        before = words[: words.index("--")] if "--" in words else words
        assert {word for word in before if word.startswith("-")} <= options | {"-"}, line
        found += 1
    assert found > 15


@pytest.mark.timeout(300)
def test_the_rehearsal_runs_as_it_is_written(tmp_path: Path) -> None:
    layout = Layout("t-sys-op")
    plumctl = tmp_path / "plumctl"
    plumctl.write_text(f'#!/bin/sh\nexec {sys.executable} -m plumctl "$@"\n')
    plumctl.chmod(0o755)
    script = "\n".join(block for kind, block in BLOCKS if kind == "sh")
    # Namespaces are the machine's: others may run the example at the same time.
    (tmp_path / "examples").mkdir()
    example = (ROOT / "examples" / "shop.yaml").read_text()
    (tmp_path / "examples" / "shop.yaml").write_text(re.sub(r"\bacme\b", "t-sys-op", example))
    # On SQLite, which is up sooner; the sandbox on etcd has tests of its own.
    script = script.replace(" --store etcd", "")
    script = script.replace("acme/", "t-sys-op/").replace("/var/tmp/", f"{tmp_path}/")
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PLUM_SANDBOX": layout.name,
    }
    environment.pop("PLUM_SOCKET", None)
    try:
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            capture_output=True, text=True, timeout=280, cwd=tmp_path, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    finally:
        zone.down(layout, str)
        layout.lock_file.unlink(missing_ok=True)
    assert "t-sys-op/shop/web-3" not in done.stdout.rpartition("WRITTEN")[2]
    assert done.stdout.splitlines()[-2:] == ["n1", "n2"]
