"""A forked child has the parent's memory but none of its threads: it asks its parent, or gets an error; it never hangs."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import held_up
import pytest

import kappa_core

IN_THE_CHILD = """
    import asyncio, gc, os, signal, sys, threading, warnings, kappa_core
    from kappa_core import aio
    warnings.simplefilter("ignore")
    path = {path!r}
    db = kappa_core.open(path)
    db.products.create({{"id": "p", "title": "x", "price": 1}})
    store, feed, pages, batch = db.products, db.changes(), db.products.list(), db.batch().create("users", {{}})
    held = db.changes()
    memory = kappa_core.in_memory()
    kept, kept_feed, kept_pages = memory.products, memory.changes(), memory.products.list()
    kept_batch = memory.batch().create("users", {{}})
    watched = db.changes()
    watcher = threading.Thread(target=lambda: all(watched), daemon=True)
    watcher.start()
    for start in (0, 50):
        filling = db.batch()
        for number in range(start, start + 50):
            filling.create("many", {{"n": number, "long": "x" * 15_000}})
        filling.commit()
    walked = db.collection("many").list(page_size=10)
    walked_first = [next(walked) for _ in range(25)]
    held_first = [next(held)["document"]["n"]]
    kappa_core.histogram(1000)

    async def awaited():
        other = await aio.open(path)
        made = await other.products.create({{"title": "from a loop", "price": 1}})
        return await other.products.get(made["id"]) == made

    async def first_of(changes):
        return await anext(changes)

    async def begun():
        changes = (await aio.open(path)).changes(start="oldest")
        assert (await anext(changes))["id"] == "p"
        return changes

    assert asyncio.run(awaited())
    awaited_held = asyncio.run(begun())

    def refused(call):
        try:
            call()
        except (kappa_core.ClosedError, kappa_core.UnsupportedError) as error:
            assert "fork" in str(error), error
            return
        raise AssertionError("the child was answered")

    child = os.fork()
    if child == 0:
        signal.alarm(30)
        for call in (kept.count, lambda: kept.get("p"), lambda: kept.create({{"title": "y", "price": 2}}),
                     lambda: next(kept_feed), lambda: next(kept_pages), kept_batch.commit, memory.info, memory.check,
                     memory.close, lambda: next(feed), lambda: next(watched), lambda: next(held),
                     lambda: asyncio.run(first_of(awaited_held)), memory.batch, memory.collections, lambda: memory.collection("x"),
                     kappa_core.in_memory):
            refused(call)
        assert store.count() == 2
        assert store.get("p")["price"] == 1
        made = store.create({{"title": "from the child", "price": 2}})
        behind = db.changes(after=feed.cursor)
        assert next(behind)["collection"] == "many"
        for inherited in (feed, watched, held, awaited_held, kept_feed):
            inherited.close()
        assert sorted(one["n"] for one in [*walked_first, *walked]) == list(range(100))
        assert made in list(pages)
        batch.commit()
        again = kappa_core.open(path)
        assert again.products.get(made["id"]) == made
        assert asyncio.run(awaited())
        assert sum(kappa_core.histogram(1000).counts) == 1000
        again.close()
        del store, feed, pages, batch, db, again, watched, held, awaited_held, walked, behind, memory, kept, kept_feed, kept_pages, kept_batch
        gc.collect()
        print("child done", flush=True)
        {end}
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 5, status
    assert store.count() == 4
    assert db.users.count() == 1
    assert kept.count() == 0
    assert sorted(one["n"] for one in [*walked_first, *walked]) == list(range(100))
    assert held_first + [next(held)["document"]["n"] for _ in range(99)] == list(range(100))
    assert watcher.is_alive()
    watched.close()
    watcher.join(30)
    assert not watcher.is_alive()
    store.create({{"title": "z", "price": 3}})
    print("parent done", flush=True)
"""


def test_a_fork_in_the_midst_of_things(tmp_path: Path, rounds: int) -> None:
    for round in range(rounds):
        path = str(tmp_path / f"data-{round}")
        end = "os._exit(5)" if round % 2 else "sys.exit(5)"
        program = textwrap.dedent(IN_THE_CHILD).format(path=path, end=end)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "child done\nparent done\n"), done.stderr
        with kappa_core.open(path, mode="owner") as db:
            assert db.products.count() == 5
            assert db.info()["recovery"] == []


MULTIPROCESSING = """
    import multiprocessing, sys, kappa_core
    path = {path!r}

    def work(number):
        db.products.create({{"id": str(number), "title": "x", "price": number}})
        return db.products.get(str(number))["price"]

    if __name__ == "__main__":
        db = kappa_core.open(path)
        kappa_core.histogram(100)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map_async(work, range(20)).get(30) == list(range(20))
        print(db.products.count())
"""


def test_a_pool_of_forked_workers(tmp_path: Path, rounds: int) -> None:
    for round in range(max(1, rounds // 5)):
        program = textwrap.dedent(MULTIPROCESSING).format(path=str(tmp_path / f"data-{round}-"))
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "20\n", "")


def _spawned(path: str) -> tuple[str, int]:
    try:
        kappa_core.open(path, mode="owner")
    except kappa_core.LockedError as error:
        with kappa_core.open(path) as db:
            db.products.create({"title": "from another process", "price": 1})
            return error.context["pid"], db.products.count()
    return "opened", 0


def test_processes_that_are_spawned_share_the_directory(tmp_path: Path) -> None:
    with kappa_core.open(tmp_path / "data") as db:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply_async(_spawned, (str(tmp_path / "data"),)).get(60) == (str(os.getpid()), 1)
        subprocess.run([sys.executable, "-c", "pass"], check=True, timeout=60)
        assert db.products.count() == 1


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


def test_a_fork_while_threads_take_turns_at_large_reads(tmp_path: Path) -> None:
    """Locks and counts that those threads hold come along, the threads do not: a child that waited for them would hang."""
    program = f"""
        import os, signal, threading, warnings, kappa_core
        warnings.simplefilter("ignore")
        db = kappa_core.open({str(tmp_path / "data")!r})
        ids = [db.products.create({{"title": "x", "price": number}})["id"] for number in range(300)]
        prices = list(range(300))
        ended = threading.Event()

        def read():
            while not ended.is_set():
                assert [one["price"] for one in db.products.get_many(ids)] == prices

        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                for _ in range(3):
                    assert [one["price"] for one in db.products.get_many(ids)] == prices
                os._exit(5)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 5, status
        ended.set()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        print("done", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize("others", [0, 3], ids=["alone", "beside others"])
@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
def test_a_signal_handler_that_forks_during_a_wait(tmp_path: Path, others: int, raises: bool) -> None:
    """The child comes back from the handler into its parent's wait, for threads that it does not have: it waited for ever."""
    steps = f"""
        child = None

        def fork(number, frame):
            global child
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(30)
                hold(None)
                if {raises}:
                    raise Alarm
            else:
                go_on()

        signal.signal(signal.SIGALRM, fork)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        # Beside others the read is begun by another thread, which the child does not have.
        hold("read")
        try:
            answer = read()
        except (kappa_core.UnavailableError, Alarm) as error:
            assert child == 0, error
            assert isinstance(error, Alarm) == {raises}, error
            assert {raises} or "fork" in str(error), error
            assert read() == prices, "its next call is its own"
            os._exit(5)
        if child == 0:
            os._exit(6)
        assert answer == prices
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 5, status
    """
    held_up.run(held_up.program(str(tmp_path / "data"), others, steps))
