"""How long an operator waits for a command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from bench import plum
from bench.loadtool import load_cpu
from bench.manifests import domain, many_endpoints
from bench.netns import CommandFailed, namespaces
from bench.plan import Plan
from bench.result import Measurement, at_most
from bench.topology import make_devices

HELP_BAR = at_most(0.3)
GET_BAR = at_most(0.5)
ENDPOINTS = 100


def run(plan: Plan) -> list[Measurement]:
    count = plan.rounds * 2
    helped = Measurement("plumctl --help", "s", _times(["--help"], {}, count), HELP_BAR)
    far = f"{plan.prefix}-cli-w"
    with plum.one_node(f"{plan.prefix}-cli") as zone, namespaces(far):
        node = zone.nodes[0]
        make_devices(node.netns, far, ENDPOINTS, "many")
        zone.apply(domain(2, 4))
        zone.apply(many_endpoints(ENDPOINTS, node.name, first_subnet=1, prefix="many"))
        got = _times(["get", "endpoint"], zone.environment, count)
    return [helped, Measurement(f"plumctl get endpoint, {ENDPOINTS} of them", "s", got, GET_BAR)]


def _times(arguments: Sequence[str], environment: dict[str, str], count: int) -> tuple[float, ...]:
    """Wall-clock seconds of each run, after one that warms the file cache."""
    return tuple([_time(arguments, environment) for _ in range(count + 1)][1:])


def _time(arguments: Sequence[str], environment: dict[str, str]) -> float:
    command = ["taskset", "-c", str(load_cpu()), sys.executable, "-m", "plumctl", *arguments]
    started = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    taken_s = time.monotonic() - started
    if done.returncode:
        raise CommandFailed(f"plumctl {' '.join(arguments)}: {done.stderr.strip()}")
    return taken_s
