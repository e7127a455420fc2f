"""The sandbox's ground on a real kernel: namespaces, cables, processes, and clearing up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plumctl.errors import ExitCode, PlumError
from plumctl.run import run, succeeds
from plumctl.sandbox import fabric, process, state, zone
from plumctl.sandbox.layout import NETNS_DIR, Layout, vtep

privileged = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes network namespaces"),
]
LAYOUT = Layout("t-cli-sb")
quiet: list[str] = []


@pytest.fixture
def layout() -> Iterator[Layout]:
    zone.down(LAYOUT, quiet.append)
    LAYOUT.run_dir.mkdir(parents=True)
    yield LAYOUT
    zone.down(LAYOUT, quiet.append)
    LAYOUT.lock_file.unlink()


def marked(layout: Layout, node: str) -> subprocess.Popen[bytes]:
    """A process that stands where a plumd of the sandbox would."""
    env = os.environ | {process.MARK: f"{layout.name}/{node}"}
    return subprocess.Popen(["sleep", "60"], env=env)


class TestFabric:
    pytestmark = privileged

    @pytest.mark.parametrize(("family", "mtu"), [(4, 1500), (6, 9000)])
    def test_nodes_reach_each_other_with_full_packets(
        self, layout: Layout, family: int, mtu: int
    ) -> None:
        fabric.build(layout, zone.fabric_for(2, family, mtu))
        payload = str(mtu - (28 if family == 4 else 48))
        ping = ["ping", "-c1", "-W2", "-M", "do", "-s", payload, str(vtep(2, family))]
        assert succeeds(*fabric.enter(layout.namespace("n1"), ping))

    def test_nothing_of_the_host_changes(self, layout: Layout) -> None:
        before = run("ip", "-j", "link", "show")
        fabric.build(layout, zone.fabric_for(3, 4, 1500))
        assert run("ip", "-j", "link", "show") == before

    def test_clearing_a_half_made_sandbox_leaves_nothing(self, layout: Layout) -> None:
        fabric.build(layout, zone.fabric_for(2, 4, 1500))
        run("ip", "netns", "delete", layout.namespace("n1"))
        layout.node_pin_dir("n2").mkdir(parents=True)
        layout.store_dir.mkdir(parents=True)
        layout.store.write_text("half")
        sleeper = marked(layout, "n2")
        assert zone.down(layout, quiet.append)
        assert sleeper.wait(timeout=5) != 0
        assert not [name for name in fabric.namespaces() if name.startswith(layout.prefix)]
        for folder in (layout.run_dir, layout.pin_dir, layout.store_dir):
            assert not folder.exists()
        assert not zone.down(layout, quiet.append)

    def test_only_namespaces_that_plumd_made_are_removed(self, layout: Layout) -> None:
        markers = layout.node_run_dir("n1") / "netns"
        markers.mkdir(parents=True)
        names = ["t-cli-made", "t-cli-others"]
        try:
            for name in names:
                run("ip", "netns", "add", name)
            (markers / "t-cli-made").write_text(f"{(NETNS_DIR / 't-cli-made').stat().st_ino}\n")
            (markers / "t-cli-others").write_text("1\n")
            zone.down(layout, quiet.append)
            assert set(fabric.namespaces()) & set(names) == {"t-cli-others"}
        finally:
            fabric.remove(names)


class TestProcesses:
    pytestmark = privileged

    def test_found_by_their_mark_and_ended(self, layout: Layout) -> None:
        mine, other = marked(layout, "n1"), marked(Layout("t-cli-sc"), "n1")
        try:
            found = process.processes(layout)
            assert found == [process.NodeProcess("n1", mine.pid)]
            # A stale note of a pid that is another's process now must not hit it.
            process.stop(layout, [*found, process.NodeProcess("n1", other.pid)])
            assert mine.wait(timeout=5) == -15
            assert process.processes(layout) == []
            assert other.poll() is None
        finally:
            for sleeper in (mine, other):
                sleeper.kill()
                sleeper.wait()

    def test_one_that_ignores_sigterm_is_killed(
        self, layout: Layout, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(process, "GRACE_S", 0.3)
        code = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"
        env = os.environ | {process.MARK: f"{layout.name}/n1"}
        stubborn = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE)
        assert stubborn.stdout
        stubborn.stdout.readline()
        process.stop(layout, process.processes(layout))
        assert stubborn.wait(timeout=5) == -9
        stubborn.stdout.close()

    def test_a_process_is_found_at_any_moment_of_an_exec(
        self, layout: Layout, tmp_path: Path
    ) -> None:
        script = tmp_path / "again"
        script.write_text('[ "$1" -eq 0 ] || exec sh "$0" $(($1 - 1))\n')
        env = os.environ | {process.MARK: f"{layout.name}/n1"}
        looks, missed = 0, 0
        with subprocess.Popen(["sh", str(script), "300"], env=env) as restless:
            while restless.poll() is None:
                found = process.processes(layout)
                if restless.poll() is None:
                    looks += 1
                    missed += not found
        assert looks > 10
        assert not missed


class TestState:
    pytestmark = privileged

    def test_a_second_up_or_down_at_once_is_refused(self, layout: Layout) -> None:
        with state.locked(layout), pytest.raises(PlumError, match="at work") as refused:
            zone.down(layout, quiet.append)
        assert refused.value.exit_code == ExitCode.CONFLICT

    def test_half_written_state_is_no_state(self, layout: Layout) -> None:
        wanted = zone.fabric_for(2, 6, 9000)
        state.write(layout, wanted)
        assert state.read(layout) == wanted
        layout.state_file.write_text('{"nodes": ["n1"')
        assert state.read(layout) is None


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--nodes", "0"), "1 to 64 nodes"),
        (("--underlay", "5"), "no IPv5"),
        (("--mtu", "100"), "1280 to 65535"),
    ],
)
def test_wishes_that_cannot_be_met_are_usage_errors(
    plumctl: Any, argv: tuple[str, ...], words: str
) -> None:
    done = plumctl("sandbox", "up", *argv)
    assert done.code == 2
    assert words in done.err


def test_without_a_sandbox_every_command_says_how_to_get_one(plumctl: Any) -> None:
    for argv in (("status",), ("exec", "web-1", "true"), ("node", "n1", "--", "true")):
        if argv[0] != "status" and os.geteuid() != 0:
            continue
        done = plumctl("sandbox", *argv)
        assert done.code == 4
        assert "plumctl sandbox up" in done.err


def test_without_root_it_says_so(plumctl: Any, tmp_path: Any) -> None:
    code = (
        "import os, sys\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "from plumctl.errors import PlumError\n"
        "from plumctl.sandbox.state import need_root\n"
        "try: need_root('sandbox up')\n"
        "except PlumError as error: sys.exit(error.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=os.getcwd(), check=False, timeout=30)
    assert done.returncode == ExitCode.NO_PERMISSION


def test_an_odd_sandbox_name_is_refused(plumctl: Any) -> None:
    done = plumctl("sandbox", "status", PLUM_SANDBOX="../etc")
    assert done.code == 2
