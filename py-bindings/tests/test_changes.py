"""The change feed waits, resumes and ends as it is told."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any

import pytest

import kappa_core
from kappa_core import aio


def test_changes_tell_what_happened_in_order(db: kappa_core.Kappa) -> None:
    changes = db.changes()
    made = db.products.create({"title": "Mate", "price": 1})
    db.products.update(made["id"], {"price": 2})
    db.products.delete(made["id"])
    created, updated, deleted = next(changes), next(changes), next(changes)
    assert [one["kind"] for one in (created, updated, deleted)] == ["created", "updated", "deleted"]
    assert {one["id"] for one in (created, updated, deleted)} == {made["id"]}
    assert {one["collection"] for one in (created, updated, deleted)} == {"products"}
    assert created["document"] == made
    assert updated["document"] == {**made, "price": 2}
    assert deleted["document"] is None
    assert created["time"] <= updated["time"] <= deleted["time"]
    assert int(created["version"]) < int(updated["version"]) < int(deleted["version"])
    assert changes.cursor == deleted["cursor"]


def test_a_feed_goes_on_behind_a_cursor_also_after_a_restart(tmp_path: Path) -> None:
    with kappa_core.open(tmp_path / "data") as db:
        changes = db.changes()
        for number in range(5):
            db.products.create({"id": str(number), "title": "x", "price": number})
        seen = [next(changes)["id"] for _ in range(2)]
        cursor = changes.cursor
    with kappa_core.open(tmp_path / "data") as db:
        again = db.changes(cursor)
        assert seen + [next(again)["id"] for _ in range(3)] == ["0", "1", "2", "3", "4"]
        oldest = db.changes(start="oldest")
        assert [next(oldest)["id"] for _ in range(5)] == ["0", "1", "2", "3", "4"]


def test_a_cursor_of_another_database_is_expired(db: kappa_core.Kappa) -> None:
    with kappa_core.in_memory() as other:
        with pytest.raises(kappa_core.ExpiredError):
            db.changes(other.changes().cursor)


@pytest.mark.parametrize("end", ["close", "the database"])
def test_a_thread_that_waits_is_released(end: str, tmp_path: Path) -> None:
    """A thread that waits for a change that never comes would keep the program from ending."""
    db = kappa_core.open(tmp_path / "data")
    changes = db.changes()
    outcome: list[object] = []

    def wait() -> None:
        try:
            outcome.extend(list(changes))
            outcome.append("ended")
        except kappa_core.ClosedError:
            outcome.append("closed")

    waiter = threading.Thread(target=wait)
    waiter.start()
    db.products.create({"id": "p", "title": "x", "price": 1})
    if end == "close":
        changes.close()
        waiter.join(30)
        assert outcome[-1] == "ended"
    db.close()
    waiter.join(30)
    assert not waiter.is_alive()
    if end != "close":
        assert outcome == ["closed"]


def test_tasks_follow_and_are_released(run: Any) -> None:
    async def steps() -> None:
        async with aio.in_memory() as db:
            seen: list[str] = []
            changes = db.changes()

            async def follow() -> str:
                async for change in changes:
                    seen.append(change["id"])
                return "ended"

            following = asyncio.ensure_future(follow())
            for number in range(600):
                await db.products.create({"id": str(number), "title": "x", "price": 1})
            while len(seen) < 600:
                await asyncio.sleep(0)
            changes.close()
            assert await following == "ended"
            assert seen == [str(number) for number in range(600)]
            closing = asyncio.ensure_future(anext(db.changes()))
            await asyncio.sleep(0)
        with pytest.raises(kappa_core.ClosedError):
            await closing

    run(steps())


def test_a_close_wakes_who_waits_at_once(run: Any) -> None:
    """Maintenance commits now and then, which would hide a close that wakes nobody: here they would be waited for each time."""

    async def steps() -> None:
        async with aio.in_memory() as db:
            for number in range(100):
                async with db.changes() as left:
                    waiting = asyncio.ensure_future(anext(left))
                    for _ in range(number % 10):
                        await asyncio.sleep(0)
                with pytest.raises(StopAsyncIteration):
                    await waiting

    run(steps(), within=20)


def test_a_task_that_is_cancelled_loses_no_change(run: Any) -> None:
    """A change that was read for somebody who left in the meantime belongs to whoever asks next."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)

    async def steps() -> None:
        async with aio.in_memory() as db:
            changes = db.changes()
            seen: list[str] = []
            for number in range(300):
                waiting = asyncio.ensure_future(anext(changes))
                writing = asyncio.ensure_future(db.products.create({"id": str(number), "title": "x", "price": 1}))
                for _ in range(chance.randrange(8)):
                    await asyncio.sleep(0)
                waiting.cancel()
                (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
                if not isinstance(outcome, BaseException):
                    seen.append(outcome["id"])
                await writing
            while len(seen) < 300:
                seen.append((await anext(changes))["id"])
            assert seen == [str(number) for number in range(300)]

    run(steps(), within=30)
