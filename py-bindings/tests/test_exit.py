"""An interpreter that ends with an open handle ends in time, with its own exit code, and leaves a clean directory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import kappa_core

ENDINGS = {
    "the end of the program": "pass",
    "sys.exit": "sys.exit(3)",
    "an exception": "raise ValueError('told so')",
    "a thread that waits": "threading.Thread(target=wait, daemon=True).start()",
    "a generator half way": "left = db.products.list(page_size=1); next(left)",
    "a cycle that is never collected": "gc.disable(); circle = [db]; circle.append(circle)",
    "an event loop that was left": "asyncio.run(left_open())",
    "a finalizer that writes": "keep = Writing()",
    "a finalizer that reads": "keep = Reading()",
}
CODES = {"sys.exit": 3, "an exception": 1}
PROGRAM = """
    import asyncio, gc, sys, threading, kappa_core
    from kappa_core import aio
    path = {path!r}

    def wait():
        try:
            next(db.changes())
        except kappa_core.ClosedError:
            pass

    async def left_open():
        global loop_db
        loop_db = await aio.open(path + "-loop")
        await loop_db.products.create({{"title": "x", "price": 1}})
        asyncio.ensure_future(anext(loop_db.changes()))
        await asyncio.sleep(0)

    class Writing:
        def __del__(self):
            try:
                db.products.create({{"title": "late", "price": 1}})
            except kappa_core.ClosedError:
                pass

    class Reading(Writing):
        def __del__(self):
            try:
                print(other.products.get("p"), flush=True)
            except kappa_core.ClosedError:
                pass

    other = kappa_core.in_memory()
    other.products.create({{"id": "p", "title": "x", "price": 1}})
    db = kappa_core.open(path)
    for number in range(3):
        db.products.create({{"title": "x", "price": number}})
    {ending}
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_open_handle_at_the_end(ending: str, tmp_path: Path, rounds: int) -> None:
    for round in range(max(1, rounds // 5)):
        path = str(tmp_path / f"data-{round}")
        program = textwrap.dedent(PROGRAM).format(path=path, ending=ENDINGS[ending])
        child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert child.returncode == CODES.get(ending, 0), child.stderr
        assert "panicked" not in child.stderr and "Fatal" not in child.stderr
        if ending != "an exception":
            assert child.stderr == ""
        with kappa_core.open(path) as db:
            assert db.products.count() == 3
            assert db.info()["recovery"] == []


def test_a_handle_that_is_forgotten_frees_its_directory(tmp_path: Path) -> None:
    db = kappa_core.open(tmp_path / "data")
    with pytest.raises(kappa_core.LockedError):
        kappa_core.open(tmp_path / "data", mode="owner")
    store = db.products
    del db
    with pytest.raises(kappa_core.LockedError):
        kappa_core.open(tmp_path / "data", mode="owner")
    store.create({"title": "x", "price": 1})
    del store
    with kappa_core.open(tmp_path / "data", mode="owner") as again:
        assert again.products.count() == 1


def test_a_closed_handle_says_so(tmp_path: Path) -> None:
    db = kappa_core.open(tmp_path / "data")
    products, changes, batch = db.products, db.changes(), db.batch().create("users", {})
    pages = products.list(page_size=1)
    db.close()
    db.close()
    for call in (
        products.count,
        lambda: products.get("a"),
        lambda: products.create({"title": "x", "price": 1}),
        lambda: next(pages),
        lambda: next(changes),
        lambda: batch.commit(),
        db.info,
        db.check,
        db.ready,
        db.collections,
        db.changes,
    ):
        with pytest.raises(kappa_core.ClosedError):
            call()
