"""The types that editors and checkers show are those that the program meets."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kappa_core
from kappa_core import aio

HERE = Path(__file__).parent


def checked(*arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=300, cwd=cwd, env=os.environ
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_program_passes_the_strict_checks(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    checked("mypy", "--strict", "--cache-dir", str(tmp_path), str(HERE / "typing_program.py"), cwd=tmp_path)


def test_the_package_itself_passes(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    checked("mypy", "--strict", "--cache-dir", str(tmp_path), "-p", "kappa_core", cwd=tmp_path)


def test_the_stubs_are_those_of_the_extension(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    allowed = tmp_path / "allowed"
    # Before Python 3.12 the buffer protocol has no method that can be seen.
    allowed.write_text("kappa_core._kappa_core.Histogram.__buffer__\n")
    arguments = ["--allowlist", str(allowed), "--ignore-unused-allowlist"]
    checked("mypy.stubtest", *arguments, "kappa_core._kappa_core", cwd=tmp_path)


@pytest.mark.parametrize("name", ["Kappa", "Collection", "Products", "Users", "Batch", "Changes"])
def test_both_ways_have_the_same_methods_with_the_same_arguments(name: str) -> None:
    """A method that only one of them has, or that takes other names, sends half of the users away."""
    blocking, awaited = getattr(kappa_core, name), getattr(aio, name)
    only_there = {"aclose"}
    public = {one for one in dir(blocking) if not one.startswith("_")}
    assert public == {one for one in dir(awaited) if not one.startswith("_")} - only_there
    for method in public:
        if callable(getattr(blocking, method)):
            ours, theirs = (inspect.signature(getattr(kind, method)) for kind in (blocking, awaited))
            assert list(ours.parameters.values()) == list(theirs.parameters.values()), method


@pytest.mark.parametrize("name", ["open", "in_memory", "connect", "histogram"])
def test_both_ways_have_the_same_functions(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(module, name)) for module in (kappa_core, aio))
    assert list(ours.parameters.values()) == list(theirs.parameters.values())
