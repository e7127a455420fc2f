"""Compiles the BPF objects on the way into the package; the rest is in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Objects first: build_py collects the package's data files when it runs."""

    def run(self) -> None:
        script = Path(__file__).resolve().parent / "bpf" / "compile.py"
        runpy.run_path(str(script))["main"]([])
        super().run()


setup(cmdclass={"build_py": BuildPy})
