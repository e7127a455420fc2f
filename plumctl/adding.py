"""The steps that make a machine a node, over SSH. Each looks first, so that all may be repeated."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from plumctl.client import Client
from plumctl.errors import ExitCode, PlumError, Problem
from plumctl.run import run
from plumctl.toolbox import host_check
from plumctl.toolbox.ssh import Done, Host

Say = Callable[[str, str, str], None]  # step, outcome (done, kept), detail

INSTALL_TIMEOUT_S = 900.0
_POLL_S = 1.0


def package_fact(package: Path, field: str) -> str:
    return run("dpkg-deb", "--field", str(package), field).strip()


def look(host: Host, package: Path | None, vtep: str, say: Say) -> dict[str, str]:
    """The facts of a host that can become a node, or PlumError with all that is in the way."""
    facts = host_check.parse(host.run(host_check.QUESTIONS).out)
    architecture = package_fact(package, "Architecture") if package else None
    failed = []
    for check in host_check.checks(facts, architecture, vtep, time.time()):
        say(check.name, "failed" if check.problem else "ok", check.problem or check.found)
        if check.problem:
            failed.append(check)
    if failed:
        raise PlumError(
            f"{host.target.host} cannot become a node; nothing was changed there",
            f"{failed[0].hint}; then run the same command again",
            problems=tuple(Problem(check.name, check.problem) for check in failed),
        )
    return facts


def install(host: Host, facts: Mapping[str, str], package: Path | None, say: Say) -> None:
    """Copy the package there and install it, unless that version is."""
    there = host_check.installed_version(facts)
    if package is None:
        if there is None:
            raise PlumError(
                f"plum-networks is not installed on {host.target.host}",
                "name the package with --package FILE (make deb builds it)",
                ExitCode.USAGE,
            )
        say("install", "kept", f"version {there}")
        return
    version = package_fact(package, "Version")
    if there == version:
        say("install", "kept", f"version {there}")
        return
    made = host.run("umask 077 && mktemp -d /var/tmp/plum-add.XXXXXX", as_user=True)
    folder = _checked(made, host, "making a folder").out.strip()
    try:
        remote = f"{folder}/{package.name}"
        host.put(package, remote)
        command = (
            # A run that was interrupted may have left packages half configured.
            "export DEBIAN_FRONTEND=noninteractive; dpkg --configure -a && "
            "apt-get -q -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold "
            f"install -y --no-install-recommends {shlex.quote(remote)}"
        )
        _checked(host.run(command, timeout_s=INSTALL_TIMEOUT_S), host, "installing the package")
    finally:
        host.run(f"rm -rf {shlex.quote(folder)}")
    say("install", "done", f"version {version}" + (f", was {there}" if there else ""))


def join(
    host: Host,
    facts: Mapping[str, str],
    client: Client,
    name: str,
    vtep: str,
    roles: Sequence[str],
    say: Say,
) -> None:
    """Into the zone of `client`, unless it is in it under that name."""
    zone = str(client.zone()["id"])
    known = json.loads(facts.get("zone") or "{}")
    if known:
        if (known.get("id"), known.get("node")) == (zone, name):
            say("join", "kept", f"node {name} of zone {zone}")
            return
        raise PlumError(
            f"{host.target.host} is node {known.get('node')} of zone {known.get('id')} already",
            f"this is zone {zone}: take it out of the other one first (plumctl node remove, then "
            "plumd --purge and rm -r /var/lib/plum/trust there), or name it so",
            ExitCode.CONFLICT,
        )
    token = str(client.invite(invitation(name, vtep, roles))["token"])
    # On stdin: arguments are seen by everybody on that host.
    done = host.run(f"plumctl node join - --vtep {shlex.quote(vtep)}", stdin=token.encode())
    _checked(done, host, "joining")
    say("join", "done", f"node {name} of zone {zone}")


def invitation(name: str, vtep: str, roles: Sequence[str]) -> dict[str, object]:
    return {"node": name, "roles": list(roles), "vtep": vtep, "life_s": 600.0, "again": False}


def start(host: Host, facts: Mapping[str, str], say: Say) -> None:
    """Also after a reboot. One that ran before it joined starts anew."""
    joined_before = bool(facts.get("zone"))
    if facts.get("running") == "active" and joined_before:
        say("start", "kept", "plumd runs")
        return
    command = "systemctl enable plumd && systemctl restart plumd"
    _checked(host.run(command, timeout_s=120), host, "starting plumd")
    say("start", "done", "plumd runs")


def await_programmed(client: Client, name: str, timeout_s: float, say: Say) -> None:
    """Until the zone hears from the node that it holds what it is to hold."""
    deadline = time.monotonic() + timeout_s
    while True:
        view = client.get("node", name)
        if view.state == "programmed":
            say("report", "done", "the node has programmed its part")
            return
        if time.monotonic() >= deadline:
            raise PlumError(
                f"node {name} has joined, but is {view.state}: {view.reason}",
                "look there: systemctl status plumd, journalctl -u plumd",
                ExitCode.TIMED_OUT,
            )
        time.sleep(_POLL_S)


def _checked(done: Done, host: Host, what: str) -> Done:
    if done.status == 0:
        return done
    lines = [line for line in (done.err + done.out).splitlines() if line.strip()]
    raise PlumError(
        f"{host.target.host}: {what} failed (exit {done.status})",
        "mend what it says and run the same command again: it goes on where it was",
        problems=tuple(Problem("", line) for line in lines[-8:]),
    )
