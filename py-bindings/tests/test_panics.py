"""A panic inside Kappa must become an exception that `except Exception` sees, wherever it happens, and the process lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import held_up
import pytest

import kappa_core
from kappa_core import _kappa_core as native
from kappa_core import aio

CLASSES = (native.Call, native.Bridge, native.Database, native.Store, native.Pages, native.Batch, native.Feed, native.Histogram, native.Worker, native.Job)
# Python's own, or doors that the test itself goes through.
INHERITED = set(dir(object)) - {"__new__", "__repr__"}
DOORS = {"_panic", "_hold", "_kinds", "_raise"}


def surface() -> set[str]:
    """The name of everything that the extension exports and Python can call."""
    names = {
        name
        for name in dir(native)
        if callable(getattr(native, name)) and not isinstance(getattr(native, name), type) and name not in DOORS
    }
    for kind in CLASSES:
        for name in set(vars(kind)) - INHERITED - {"__doc__", "__module__", "__weakref__"}:
            names.add(f"{kind.__name__}.{name}")
    return names


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    native._panic(None)


def calls(db: native.Database) -> dict[str, Callable[[], Any]]:
    """One call for each name; what it needs is made before anything is armed."""
    store, batch, feed = db.collection("things"), db.batch(), db.changes(None, "now")
    pages = store.list(None, None, None, None, False, None, None, None)
    histogram = native.histogram(10, (1, 6), 1, "draw", None).wait()
    bridge, counting = native.Bridge(), store.count()
    db.task("enqueue", {"queue": "q"}, None).wait()
    worker = db.worker({"queues": ["q"]})
    job = worker.next_within(60_000)
    assert job is not None
    found: dict[str, Callable[[], Any]] = {
        "open": lambda: native.open("nowhere", {}),
        "connect": lambda: native.connect("http://127.0.0.1:1", None, {}),
        "in_memory": lambda: native.in_memory({}),
        "histogram": lambda: native.histogram(1, None, None, "draw", None),
        "cpu_info": native.cpu_info,
        "milliseconds": lambda: native.milliseconds("ttl", "5s"),
        "Call.wait_within": lambda: counting.wait_within(0),
        "Database.task": lambda: db.task("queues", None, None),
        "Database.task_ended": lambda: db.task_ended(1),
        "Database.worker": lambda: db.worker({"queues": ["q"]}),
        "Worker.next_within": lambda: worker.next_within(0),
        "Worker.stop": lambda: worker.stop(0),
        "Job.progress": lambda: job.progress(0.5),
        "Job.interrupted_within": lambda: job.interrupted_within(0),
        "Job.complete": lambda: job.complete(None),
        "Job.fail": lambda: job.fail("no", True),
        "Batch.enqueue": lambda: batch.enqueue({"queue": "q"}),
        "mock_products": lambda: native.mock_products(1, 1),
        "Call.wait": counting.wait,
        "Bridge.__new__": native.Bridge,
        "Bridge.fileno": bridge.fileno,
        "Bridge.start": lambda: bridge.start(counting, None),
        "Bridge.drain": bridge.drain,
        "Bridge.forget": lambda: bridge.forget(0),
        "Bridge.awaiting": bridge.awaiting,
        "Store.create": lambda: store.create({}, None, None),
        "Store.replace": lambda: store.replace("a", {}, None, None, None),
        "Store.update": lambda: store.update("a", {}, None, None, None),
        "Store.delete": lambda: store.delete("a", None, None),
        "Store.get": lambda: store.get("a"),
        "Store.entry": lambda: store.entry("a"),
        "Store.get_many": lambda: store.get_many([]),
        "Store.list": lambda: store.list(None, None, None, None, False, None, None, None),
        "Store.declare": lambda: store.declare(None, None, None),
        "Store.drop_index": lambda: store.drop_index("a"),
        "Batch.create": lambda: batch.create("things", {}, None),
        "Batch.replace": lambda: batch.replace("things", "a", {}, None, None),
        "Batch.update": lambda: batch.update("things", "a", {}, None, None),
        "Batch.delete": lambda: batch.delete("things", "a", None),
        "Batch.commit": lambda: batch.commit(None),
        "Database.collection": lambda: db.collection("a"),
        "Database.changes": lambda: db.changes(None, "now"),
        "Histogram.__len__": lambda: len(histogram),
        "Histogram.__repr__": lambda: repr(histogram),
        "Histogram.__buffer__": lambda: memoryview(histogram),
        "Histogram.get": lambda: histogram.get(1),
    }
    for owner in (db, store, feed, pages, histogram, worker, job):
        for name in set(vars(type(owner))) - INHERITED:
            if f"{type(owner).__name__}.{name}" in found or name.startswith("__"):
                continue
            found[f"{type(owner).__name__}.{name}"] = lambda owner=owner, name=name: (
                value() if callable(value := getattr(owner, name)) else value
            )
    return found


def test_a_panic_in_any_exported_function_is_an_exception() -> None:
    database = native.in_memory({}).wait()
    known = calls(database)
    missing = surface() - known.keys() - {"Histogram.__getbuffer__", "Histogram.__releasebuffer__"}
    assert not missing, "the test calls everything there is"
    assert len(known) >= 55
    for name, call in known.items():
        native._panic("Histogram.__getbuffer__" if name == "Histogram.__buffer__" else name)
        with pytest.raises(kappa_core.InternalError, match="asked for by a test"):
            call()
    native._panic(None)
    assert database.collection("things").count().wait() == 0, "the process lives and goes on"
    database.close().wait()


@pytest.mark.parametrize("where", ["open", "close", "check", "histogram"])
def test_a_panic_on_a_thread_of_its_own_reaches_the_caller(where: str) -> None:
    """Nobody joins such a thread: without an answer its caller would wait for ever."""
    database = native.in_memory({}).wait()
    waiting = {
        "open": native.in_memory({}),
        "close": database.close(),
        "check": database.check(),
        "histogram": native.histogram(10, None, None, "draw", None),
    }[where]
    native._panic(where)
    with pytest.raises(kappa_core.InternalError, match="asked for by a test"):
        waiting.wait()
    native._panic(None)
    assert database.collection("things").count().wait() == 0


@pytest.mark.parametrize("where", ["read", "await"])
def test_a_panic_behind_an_event_loop_reaches_the_task(where: str, run: Any) -> None:
    async def steps() -> None:
        async with aio.in_memory() as db:
            native._panic(where)
            with pytest.raises(kappa_core.InternalError, match="asked for by a test"):
                await db.products.count()
            native._panic(None)
            assert await db.products.count() == 0
            assert await asyncio.gather(*(db.products.count() for _ in range(10))) == [0] * 10

    run(steps())


def test_a_panic_beside_one_who_takes_turns_reaches_the_caller(tmp_path: Path) -> None:
    """The read runs on another thread: without an answer from there its caller would wait for ever."""
    steps = """
        kappa_core._kappa_core._panic("read")
        try:
            read()
            raise AssertionError("it was answered")
        except kappa_core.InternalError as error:
            assert "asked for by a test" in str(error), error
        kappa_core._kappa_core._panic(None)
        go_on()
        assert read() == prices
    """
    held_up.run(held_up.program(str(tmp_path / "data"), 3, steps))
