"""plumctl as a process, against a server that speaks the contract."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _sibling(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


contract = _sibling("contract_server")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Plumctl = Callable[..., Done]


@pytest.fixture
def zone(tmp_path: Path) -> Iterator[Any]:
    with contract.serving(tmp_path / "plumd.sock") as zone:
        yield zone


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PLUM_SOCKET": str(tmp_path / "plumd.sock"),
        "PLUM_SANDBOX": "t-none",
    }


@pytest.fixture
def plumctl(environment: dict[str, str], tmp_path: Path) -> Plumctl:
    """Run plumctl as a user does; stdout and stderr are pipes."""

    def run(*argv: str, stdin: str = "", **env: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "plumctl", *argv],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=tmp_path,
            env=environment | env,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def shop(zone: Any) -> Any:
    """Two tenants with a shop each; web-1 is in both, db-1 in one."""
    zone.put({"kind": "node", "name": "n1", "spec": {"vtep": "192.0.2.1"}})
    for tenant in ("acme", "zeta"):
        zone.put({"kind": "tenant", "name": tenant, "spec": {}})
        bridges = {"bridges": [{"name": "web"}]}
        zone.put({"kind": "domain", "name": "shop", "tenant": tenant, "spec": bridges})
        zone.put(endpoint("web-1", tenant))
    zone.put(endpoint("db-1", "acme"), "error", "n1: device tap7 is missing")
    return zone


def endpoint(name: str, tenant: str = "acme", **spec: Any) -> dict[str, Any]:
    base = {"domain": "shop", "bridge": "web", "node": "n1"}
    return {"kind": "endpoint", "name": name, "tenant": tenant, "spec": base | spec}
