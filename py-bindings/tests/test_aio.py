"""An event loop stays free while Kappa works, and tasks may be cancelled at any time."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

import kappa_core
from kappa_core import aio
from kappa_core.aio import _loop


def awaiting() -> int:
    """How many calls the running loop waits for."""
    return _loop._bridge(asyncio.get_running_loop()).awaiting()


def running(name: str) -> bool:
    """Whether this process has a thread of this name."""
    for task in Path("/proc/self/task").glob("*/comm"):
        try:
            if name in task.read_text():
                return True
        except OSError:
            pass  # A thread that has ended since the folder was read.
    return False


def test_many_calls_at_once(tmp_path: Path, run: Any) -> None:
    async def steps() -> None:
        async with aio.open(tmp_path / "data") as db:
            made = await asyncio.gather(*(db.products.create({"title": "x", "price": n}) for n in range(1000)))
            assert len({product["id"] for product in made}) == 1000
            found = await asyncio.gather(*(db.products.get(product["id"]) for product in made))
            assert found == made
            assert len([product async for product in db.products.list(page_size=7)]) == 1000
            assert awaiting() == 0

    run(steps())


def test_opening_by_await_and_by_async_with(tmp_path: Path, run: Any) -> None:
    async def steps() -> None:
        db = await aio.open(tmp_path / "data")
        assert (await db.info())["durability"] == "synced"
        with pytest.raises(kappa_core.LockedError):
            await aio.open(tmp_path / "data", mode="owner")
        async with db:
            await db.ready()
            assert await db.check() == []
        with pytest.raises(kappa_core.ClosedError):
            await db.products.count()
        async with aio.open(tmp_path / "data", durability="written", network_disk=True) as again:
            assert (await again.info())["durability"] == "written"

    run(steps())


def test_a_cancelled_task_leaves_nothing_behind(run: Any) -> None:
    """Each forgotten call would hold its future, the loop and a slot for ever."""

    async def steps() -> None:
        async with aio.in_memory() as db:
            seed = random.randrange(2**32)
            print("seed", seed)
            chance = random.Random(seed)
            for _ in range(300):
                calls = [
                    asyncio.ensure_future(db.products.create({"title": "x", "price": 1})),
                    asyncio.ensure_future(db.products.count()),
                    asyncio.ensure_future(anext(db.changes())),
                ]
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
                assert awaiting() == 0
            assert await db.products.count() <= 300

    run(steps())


def test_a_cancelled_histogram_stops(run: Any) -> None:
    """Years of draws would otherwise go on behind a request that nobody waits for."""

    async def steps() -> None:
        endless = asyncio.ensure_future(aio.histogram(2**63))
        deadline = time.monotonic() + 30
        while not running("kappa-histogram"):
            assert time.monotonic() < deadline, "the run does not begin"
            await asyncio.sleep(0)
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless
        while running("kappa-histogram"):
            assert time.monotonic() < deadline, "the run goes on"
            await asyncio.sleep(0)
        assert sum((await aio.histogram(10**6)).counts) == 10**6

    run(steps())


def test_the_loop_stays_free(tmp_path: Path, run: Any) -> None:
    """64 durable writes and a large draw at once must not keep other tasks waiting."""
    delays: list[float] = []

    async def steps() -> None:
        async with aio.open(tmp_path / "data") as db:
            done = asyncio.Event()

            async def watch() -> None:
                while not done.is_set():
                    start = time.perf_counter()
                    await asyncio.sleep(0.001)
                    delays.append(time.perf_counter() - start - 0.001)

            async def write() -> None:
                for number in range(10):
                    await db.products.create({"title": "x", "price": number})

            watching = asyncio.ensure_future(watch())
            draw = asyncio.ensure_future(aio.histogram(10**8))
            await asyncio.gather(*(write() for _ in range(64)))
            assert sum((await draw).counts) == 10**8
            done.set()
            await watching
            assert await db.products.count() == 640

    run(steps())
    delays.sort()
    p99 = delays[int(len(delays) * 0.99)]
    print(f"delays={len(delays)} p50_ms={delays[len(delays) // 2] * 1e3:.2f} p99_ms={p99 * 1e3:.2f}")
    # The draw and the disk use all cores, so a task may wait for its turn; a call on the loop would take much longer.
    assert p99 < 0.5


def test_loops_follow_each_other_and_run_beside_each_other(tmp_path: Path) -> None:
    """A bridge that outlived its loop would wake a loop that is gone, or keep it in memory."""
    db = kappa_core.open(tmp_path / "data")
    db.close()
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def steps(path: Path) -> int:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        async with aio.open(path) as db:
            await db.products.create({"title": "x", "price": 1})
            return await db.products.count()

    assert [asyncio.run(steps(tmp_path / "data")) for _ in range(5)] == [1, 2, 3, 4, 5]
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: counts.append(asyncio.run(steps(tmp_path / f"beside-{n}"))))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts == [1] * 4
    gc.collect()
    assert [loop() for loop in loops] == [None] * 9


def test_a_loop_that_ends_with_calls_under_way(tmp_path: Path) -> None:
    async def steps() -> aio.Kappa:
        db = await aio.open(tmp_path / "data")
        asyncio.ensure_future(anext(db.changes()))
        asyncio.ensure_future(db.products.create({"title": "x", "price": 1}))
        asyncio.ensure_future(aio.histogram(2**63))
        await asyncio.sleep(0)
        return db

    db = asyncio.run(steps())
    asyncio.run(db.close())
    with kappa_core.open(tmp_path / "data") as again:
        assert again.products.count() <= 1


def test_the_same_database_from_two_loops(tmp_path: Path) -> None:
    async def opened() -> aio.Kappa:
        return await aio.open(tmp_path / "data")

    async def used(db: aio.Kappa) -> int:
        await db.products.create({"title": "x", "price": 1})
        return await db.products.count()

    db = asyncio.run(opened())
    assert [asyncio.run(used(db)) for _ in range(3)] == [1, 2, 3]
    asyncio.run(db.close())


def test_a_loop_without_sockets_is_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps() -> None:
        def add_reader(*_: object) -> None:
            raise NotImplementedError

        monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", add_reader)
        with pytest.raises(kappa_core.UnsupportedError, match="add_reader"):
            await aio.histogram(1)

    run(steps())
