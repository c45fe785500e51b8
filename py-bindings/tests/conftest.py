"""What the tests share: databases, and both ways to call them."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kappa_core
from kappa_core import aio

sys.path.insert(0, str(Path(__file__).parent))

ROUNDS = 100 if os.environ.get("KAPPA_SOAK") else 10
"""How often a test that depends on timing is repeated."""


@pytest.fixture
def rounds() -> int:
    return ROUNDS


@pytest.fixture
def db() -> Iterator[kappa_core.Kappa]:
    with kappa_core.in_memory() as db:
        yield db


@pytest.fixture(params=["sync", "aio"])
def open_database(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Opens a database in memory, or at the path given, through one of the two ways."""
    module = aio if request.param == "aio" else kappa_core

    async def open_it(path: Path | None = None, **options: Any) -> Any:
        opened = module.open(path, **options) if path else module.in_memory(**options)
        return await opened if module is aio else opened

    return open_it


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a server on a database of its own. ``cargo xtask python`` says where the program is."""
    command = [os.environ["KAPPA_SERVER"], "--data", str(tmp_path / "data"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"listens on (http:\S+)", line):
                yield found[1]
                break
        else:
            pytest.fail("".join(said))
        process.kill()
        process.stdout.close()


@pytest.fixture
def run() -> Callable[..., Any]:
    """Runs a coroutine, with a bound: a test that hangs says nothing."""

    def run_it(coroutine: Any, within: float = 60) -> Any:
        return asyncio.run(asyncio.wait_for(coroutine, within))

    return run_it
