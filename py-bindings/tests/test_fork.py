"""A forked child has the parent's memory but none of its threads: it must get an error, never wait for them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import kappa_core

IN_THE_CHILD = """
    import gc, os, signal, sys, warnings, kappa_core
    from kappa_core import aio
    warnings.simplefilter("ignore")
    path = {path!r}
    db = kappa_core.open(path)
    db.products.create({{"id": "p", "title": "x", "price": 1}})
    store, feed, pages, batch = db.products, db.changes(), db.products.list(), db.batch().create("users", {{}})
    kappa_core.histogram(1000)

    def refused(call):
        try:
            call()
        except (kappa_core.ClosedError, kappa_core.UnsupportedError) as error:
            assert "fork" in str(error), error
            return
        raise AssertionError("the child was answered")

    child = os.fork()
    if child == 0:
        signal.alarm(20)
        for call in (store.count, lambda: store.get("p"), lambda: store.create({{"title": "y", "price": 2}}),
                     lambda: next(feed), lambda: next(pages), batch.commit, db.info, db.check, db.close, feed.close,
                     db.batch, db.collections, lambda: db.collection("x")):
            refused(call)
        for opening in (lambda: kappa_core.open(path + "-child"), kappa_core.in_memory, aio.in_memory):
            refused(opening)
        assert sum(kappa_core.histogram(1000).counts) == 1000
        del store, feed, pages, batch, db
        gc.collect()
        print("child done", flush=True)
        {end}
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 5, status
    assert store.count() == 1
    store.create({{"title": "z", "price": 3}})
    try:
        kappa_core.open(path)
    except kappa_core.LockedError:
        print("parent done", flush=True)
"""


def test_a_fork_in_the_midst_of_things(tmp_path: Path, rounds: int) -> None:
    for round in range(rounds):
        path = str(tmp_path / f"data-{round}")
        end = "os._exit(5)" if round % 2 else "sys.exit(5)"
        program = textwrap.dedent(IN_THE_CHILD).format(path=path, end=end)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "child done\nparent done\n"), done.stderr
        with kappa_core.open(path) as db:
            assert db.products.count() == 2
            assert db.info()["recovery"] == []


MULTIPROCESSING = """
    import multiprocessing, sys, kappa_core
    path = {path!r}

    def work(number):
        try:
            db.products.count()
        except kappa_core.ClosedError as error:
            first = error.code
        try:
            kappa_core.open(path + str(number))
        except kappa_core.UnsupportedError as error:
            return first, error.code, sum(kappa_core.histogram(100 + number).counts)

    if __name__ == "__main__":
        db = kappa_core.open(path)
        kappa_core.histogram(100)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map_async(work, range(4)).get(30) == [("closed", "unsupported", 100 + number) for number in range(4)]
        print(db.products.count())
"""


def test_a_pool_of_forked_workers(tmp_path: Path, rounds: int) -> None:
    for round in range(max(1, rounds // 5)):
        program = textwrap.dedent(MULTIPROCESSING).format(path=str(tmp_path / f"data-{round}-"))
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def _spawned(path: str) -> str:
    try:
        kappa_core.open(path)
    except kappa_core.LockedError as error:
        return error.context["pid"]
    return "opened"


def test_processes_that_are_spawned_are_told_who_holds_the_directory(tmp_path: Path) -> None:
    with kappa_core.open(tmp_path / "data") as db:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply_async(_spawned, (str(tmp_path / "data"),)).get(60) == str(os.getpid())
        subprocess.run([sys.executable, "-c", "pass"], check=True, timeout=60)
        assert db.products.count() == 0


CHILDREN_FIRST = """
    import os, sys, kappa_core
    path = {path!r}
    child = os.fork()
    with kappa_core.open(path + ("child" if child == 0 else "parent")) as db:
        db.products.create({{"title": "own", "price": 1}})
        count = db.products.count()
    if child == 0:
        os._exit(count)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == count == 1
"""


def test_children_of_a_process_that_opened_nothing_may_open(tmp_path: Path, rounds: int) -> None:
    """Servers import their program first and fork their workers then."""
    for round in range(max(1, rounds // 5)):
        program = textwrap.dedent(CHILDREN_FIRST).format(path=str(tmp_path / f"data-{round}-"))
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
