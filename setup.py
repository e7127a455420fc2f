"""Compiles the datapath when the package is built; see pyproject.toml for the rest."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithDatapath(build_py):
    def run(self) -> None:
        if not shutil.which("clang"):
            raise SystemExit("clang is needed to compile the datapath: apt-get install clang")
        subprocess.run(
            ["make", "--silent", "bpf/plum.bpf.o"], cwd=Path(__file__).parent, check=True
        )
        super().run()


setup(cmdclass={"build_py": BuildWithDatapath})
