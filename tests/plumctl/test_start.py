"""How plumctl starts, fails and ends."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from plumctl.errors import ExitCode, PlumError
from plumctl.locate import socket_path

HEAVY = {"pydantic", "ruamel", "rich", "daemon", "pyroute2"}
# Typer 0.29 and later turn a command's arguments into values with pydantic.
OF_TYPER = {"pydantic"}


def loaded_modules(environment: dict[str, str], *argv: str) -> set[str]:
    code = (
        "import sys; sys.argv = ['plumctl', *sys.argv[1:]]\n"
        "from plumctl.__main__ import main\n"
        "main(); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv],
        capture_output=True,
        text=True,
        env=environment,
        timeout=30,
        check=True,
    )
    return {name.split(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize(
    ("argv", "heavy"),
    [
        (("--help",), HEAVY),
        (("_complete", "endpoint"), HEAVY | {"typer"}),
        (("get", "endpoint"), HEAVY - OF_TYPER),
    ],
)
def test_what_people_wait_for_imports_nothing_heavy(
    shop: Any, environment: dict[str, str], argv: tuple[str, ...], heavy: set[str]
) -> None:
    assert loaded_modules(environment, *argv) & heavy == set()


def test_help_imports_no_command(environment: dict[str, str]) -> None:
    code = (
        "import sys; sys.argv = ['plumctl', '--help']\n"
        "from plumctl.__main__ import main\n"
        "main(); print([m for m in sys.modules if m.startswith('plumctl.commands')],"
        " file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=30,
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("argv", "bar_s"), [(("--help",), 0.3), (("get", "endpoint"), 0.5), (("_complete", "ep"), 0.3)]
)
def test_starts_fast(plumctl: Any, shop: Any, argv: tuple[str, ...], bar_s: float) -> None:
    times = []
    for _ in range(7):
        start = time.monotonic()
        assert plumctl(*argv).code == 0
        times.append(time.monotonic() - start)
    assert statistics.median(times) <= bar_s


def test_every_command_has_help_with_examples(plumctl: Any) -> None:
    from plumctl.cli import COMMANDS, load
    from plumctl.shells.tree import verbs

    assert len(verbs()) > len(COMMANDS)
    for name in COMMANDS:
        command = load(name)
        assert command is not None
        for each in getattr(command, "commands", {"": command}).values():
            assert each.help, name
            assert "Examples:\n  " in (each.epilog or ""), (name, each.name)


def test_a_wrong_command_is_a_usage_error_with_a_suggestion(plumctl: Any) -> None:
    done = plumctl("aplly")
    assert done.code == 2
    assert "Did you mean 'apply'?" in done.err
    assert plumctl("get").code == 2
    assert plumctl("get", "ep", "-o", "xml").code == 2


def test_no_daemon(plumctl: Any) -> None:
    done = plumctl("get", "endpoint")
    assert done.code == 3
    assert "plumctl sandbox up" in done.err


def test_a_daemon_that_breaks_off_or_answers_nonsense(plumctl: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "plumd.sock"))
        server.listen()
        pid = os.fork()
        if pid == 0:
            for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"):
                connection, _ = server.accept()
                connection.recv(65536)
                connection.sendall(answer)
                connection.close()
            os._exit(0)
        try:
            broke_off = plumctl("status")
            nonsense = plumctl("status")
        finally:
            os.waitpid(pid, 0)
    assert broke_off.code == 3
    assert nonsense.code == 1
    assert "same version" in nonsense.err


def test_ctrl_c_is_quiet(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "plumd.sock"))
        server.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "plumctl", "status"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = server.accept()
        connection.recv(65536)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        connection.close()
    assert (process.returncode, out, err) == (130, "", "")


def test_no_right_to_look_for_the_daemon_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(layout: object) -> list[Path]:
        raise PermissionError(13, "Permission denied", "/run/plum/sandbox")

    monkeypatch.delenv("PLUM_SOCKET", raising=False)
    monkeypatch.setattr("plumctl.locate.DEFAULT_SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr("plumctl.sandbox.layout.Layout.sockets", refuse)
    with pytest.raises(PlumError) as refused:
        socket_path()
    assert refused.value.exit_code == ExitCode.NO_PERMISSION
    assert "plum" in refused.value.hint
