"""Whether a machine can become a node: what is asked of it, and what follows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

OLDEST_KERNEL = (6, 1)
OLDEST_DEBIAN = 12
FREE_MIB = 300
#: Certificates are valid from the moment they are made: a clock that is behind refuses them.
MAX_SKEW_S = 30
VXLAN_PORT, API_PORT = 4789, 4788

#: Prints KEY=VALUE lines; changes nothing. Run with sh, as root.
QUESTIONS = f"""
. /etc/os-release; echo "os=$ID"; echo "os_version=$VERSION_ID"
echo "kernel=$(uname -r)"
echo "architecture=$(dpkg --print-architecture 2>/dev/null)"
echo "uid=$(id -u)"
echo "time=$(date +%s)"
[ -r /sys/kernel/btf/vmlinux ] && echo btf=yes
grep -qw bpf /proc/filesystems && echo bpffs=yes
[ -d /run/systemd/system ] && echo systemd=yes
echo "addresses=$(ip -o address show 2>/dev/null | awk '{{print $4}}' | cut -d/ -f1 | xargs)"
echo "free_mib=$(df -Pm /usr | awk 'NR==2 {{print $4}}')"
echo "installed=$(dpkg-query -W -f '${{db:Status-Abbrev}}${{Version}}' plum-networks 2>/dev/null)"
echo "running=$(systemctl is-active plumd 2>/dev/null)"
echo "zone=$(tr -d '\\n' 2>/dev/null </var/lib/plum/trust/zone.json)"
port() {{ awk -v p="$(printf ':%04X$' "$2")" '$2 ~ p' /proc/net/$1 /proc/net/${{1}}6 | grep -c .; }}
echo "vxlan_port=$(port udp {VXLAN_PORT})"
echo "api_port=$(port tcp {API_PORT})"
"""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    found: str
    problem: str = ""  # empty: it is fine
    hint: str = ""


def parse(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def installed_version(facts: Mapping[str, str]) -> str | None:
    """Of a package that is wholly installed."""
    state = facts.get("installed", "")
    return state.removeprefix("ii ") if state.startswith("ii ") else None


def checks(
    facts: Mapping[str, str], architecture: str | None, vtep: str | None, now: float
) -> Iterator[Check]:
    """Everything that must hold before anything is changed. `architecture`: the package's."""
    yield _root(facts)
    yield _system(facts)
    yield _kernel(facts)
    yield _clock(facts, now)
    found = facts.get("architecture", "")
    wrong = architecture is not None and found != architecture
    yield Check(
        "architecture",
        found,
        f"the package is for {architecture}" if wrong else "",
        "build the package on such a machine: make deb",
    )
    free_mib = int(facts.get("free_mib") or 0)
    short = free_mib < FREE_MIB and installed_version(facts) is None
    yield Check(
        "disk",
        f"{free_mib} MiB free",
        f"needs {FREE_MIB} MiB in /usr" if short else "",
        "free some",
    )
    if vtep is not None:
        there = vtep in facts.get("addresses", "").split()
        yield Check(
            "vtep", vtep, "" if there else "no device of the host has this address",
            "give the address of its device on the underlay, or set it up there first",
        )  # fmt: skip
    if facts.get("running") != "active":  # else they are plumd's own
        yield _port("port 4789/udp", facts.get("vxlan_port"))
        yield _port("port 4788/tcp", facts.get("api_port"))


def _root(facts: Mapping[str, str]) -> Check:
    root = facts.get("uid") == "0"
    problem = "" if root else "commands do not run as root there"
    return Check(
        "root", "yes" if root else "no", problem, "log in as root, or allow sudo -n to the user"
    )


def _system(facts: Mapping[str, str]) -> Check:
    name, version = facts.get("os", "?"), facts.get("os_version", "")
    new = version.split(".")[0].isdecimal() and int(version.split(".")[0]) >= OLDEST_DEBIAN
    problem = "" if name == "debian" and new else f"needs Debian {OLDEST_DEBIAN} or later"
    if not problem and not facts.get("systemd"):
        problem = "systemd does not run there"
    return Check("system", f"{name} {version}".strip(), problem, "install such a Debian there")


def _kernel(facts: Mapping[str, str]) -> Check:
    found = facts.get("kernel", "")
    match = re.match(r"(\d+)\.(\d+)", found)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_KERNEL:
        problem = f"needs Linux {OLDEST_KERNEL[0]}.{OLDEST_KERNEL[1]} or later"
    elif not facts.get("btf"):
        problem = "has no BTF (/sys/kernel/btf/vmlinux)"
    elif not facts.get("bpffs"):
        problem = "has no BPF file system"
    else:
        problem = ""
    return Check("kernel", found, problem, "boot Debian's own kernel (linux-image-amd64)")


def _clock(facts: Mapping[str, str], now: float) -> Check:
    skew_s = int(facts.get("time") or 0) - now
    off = abs(skew_s) > MAX_SKEW_S
    problem = "too far: certificates would be refused" if off else ""
    return Check("clock", f"{skew_s:+.0f} s", problem, "set up time synchronisation on both")


def _port(name: str, users: str | None) -> Check:
    taken = users not in ("0", None)
    return Check(
        name,
        "taken" if taken else "free",
        "another program has it" if taken else "",
        "see which: ss -lnup, ss -lntp; a kernel vxlan device takes 4789/udp",
    )
