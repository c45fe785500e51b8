"""The task queue and its workers: what a handler does, and what happens to a task when its worker does not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from contract import settle

import kappa_core
from kappa_core import aio

BLOCKED = 60.0 if os.environ.get("KAPPA_SOAK") else 2.5
"""How long a handler holds the interpreter's lock, with a lease of a second."""

WITHIN = 60.0 + BLOCKED
"""Longer than anything here takes; only a lost task makes a test wait for it."""

BLOCKING = """
import ctypes, sys, kappa_core
db = kappa_core.open(sys.argv[1])
runs = []
def handler(task):
    runs.append(task.fence)
    # Holds the interpreter's lock: no other Python thread runs meanwhile.
    ctypes.PyDLL(None).usleep(int(float(sys.argv[2]) * 1_000_000))
    return len(runs)
worker = db.worker("block", handler, lease=1, concurrency=2)
id = db.tasks.enqueue("block")["id"]
done = db.tasks.wait(id, timeout=120)
assert done["result"] == 1 and done["attempt"] == 1 and len(runs) == 1, (done, runs)
assert worker.stop() == 0
db.close()
print("once")
"""

STUCK = """
import sys, time, kappa_core
db = kappa_core.open(sys.argv[1], mode="client" if sys.argv[2] == "client" else "auto")
def handler(task):
    print("began", flush=True)
    time.sleep(600)
worker = db.worker("kill", handler, lease=1, name="doomed")
if sys.argv[2] == "exit":
    sys.stdin.readline()
    sys.exit(0)
time.sleep(600)
"""

APP = """
from kappa_core import Queue
queue = Queue({path!r})

@queue.handler("mail", concurrency=2)
{define} mail(task):
    return {{"sent": task.params["to"]}}
"""


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ended(db: kappa_core.Kappa, id: int) -> Any:
    return db.tasks.wait(id, timeout=WITHIN)


def test_failures_are_retried_and_told(db: kappa_core.Kappa) -> None:
    """A handler that raised once must run again, and what it raised must be seen by people."""

    def handler(task: kappa_core.RunningTask) -> Any:
        if task.attempt < 3:
            raise ValueError(f"not yet {task.attempt}")
        return {"attempt": task.attempt, "max": task.max_attempts, "fence": list(task.fence), "got": task.params}

    with db.worker("work", handler):
        task = db.tasks.enqueue("work", {"big": 12345678901234567890}, attempts=3, backoff="1ms")
        assert not task["existing"]
        done = ended(db, task["id"])
    assert done["state"] == "completed"
    assert done["result"] == {"attempt": 3, "max": 3, "fence": [task["id"], 3], "got": {"big": 12345678901234567890}}
    assert [one["error"] for one in done["failures"]] == ["ValueError: not yet 1", "ValueError: not yet 2"]


@pytest.mark.parametrize(("raised", "error"), [(kappa_core.Discard("no such user"), "no such user"), (object(), None)])
def test_what_cannot_succeed_is_a_dead_letter(db: kappa_core.Kappa, raised: Any, error: str | None) -> None:
    """Runs that no retry would mend cost time; a result that is no JSON must not be lost in silence."""

    def handler(task: kappa_core.RunningTask) -> Any:
        if isinstance(raised, Exception):
            raise raised
        return raised

    with db.worker("work", handler):
        done = ended(db, db.tasks.enqueue("work", attempts=5 if error else 1)["id"])
    assert (done["state"], done["attempt"]) == ("failed", 1)
    assert error in (None, done["error"])
    assert done["error"]
    assert db.tasks.redrive("work") == 1
    assert db.tasks.page("work", state="waiting")["items"][0]["redrives"] == 1


def test_a_running_task_is_told_that_it_was_cancelled(db: kappa_core.Kappa) -> None:
    began = threading.Event()

    def handler(task: kappa_core.RunningTask) -> None:
        began.set()
        assert task.wait_cancelled(WITHIN)
        assert (task.cancelled, task.interrupt) == (True, "cancelled")
        task.raise_if_cancelled()

    with db.worker("work", handler):
        id = db.tasks.enqueue("work")["id"]
        assert began.wait(WITHIN)
        assert db.tasks.cancel(id)["changed"]
        assert ended(db, id)["state"] == "cancelled"


def test_an_async_handler_is_cancelled(run: Any) -> None:
    async def steps() -> None:
        async with aio.in_memory() as db:
            began = asyncio.Event()

            async def handler(task: kappa_core.RunningTask) -> None:
                began.set()
                await asyncio.sleep(600)

            async with db.worker("work", handler, concurrency=2):
                task = await db.tasks.enqueue("work")
                await began.wait()
                await db.tasks.cancel(task["id"])
                assert (await db.tasks.wait(task["id"], timeout=WITHIN))["state"] == "cancelled"

    run(steps())


def test_a_run_that_takes_too_long_is_given_up_and_its_late_result_refused(db: kappa_core.Kappa) -> None:
    """Otherwise one stuck run would hold its task for ever, or its late result would overwrite that of the next."""
    interrupts: list[str | None] = []

    def handler(task: kappa_core.RunningTask) -> str:
        if task.attempt == 1:
            task.wait_cancelled(WITHIN)
            interrupts.append(task.interrupt)
            return "late"
        return "in time"

    with db.worker("work", handler, concurrency=2):
        done = ended(db, db.tasks.enqueue("work", timeout="300ms", backoff="1ms", attempts=20)["id"])
    assert (done["result"], interrupts) == ("in time", ["timed_out"])
    # A machine that is busy for a moment may keep also the second run from being told in time.
    assert done["attempt"] >= 2


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_graceful_stop_hands_tasks_back(kind: str, run: Any) -> None:
    """A deployment must neither lose a task nor use up its attempts."""

    async def steps() -> None:
        async with aio.in_memory() as db:
            began = asyncio.Event()
            loop = asyncio.get_running_loop()

            def blocks(task: kappa_core.RunningTask) -> None:
                loop.call_soon_threadsafe(began.set)
                task.wait_cancelled(WITHIN)
                task.raise_if_cancelled()

            async def awaits(task: kappa_core.RunningTask) -> None:
                began.set()
                await asyncio.sleep(600)

            worker = db.worker("work", blocks if kind == "def" else awaits)
            ids = await db.tasks.enqueue_many([{"queue": "work"}, {"queue": "work"}])
            await began.wait()
            assert await worker.stop(grace=0) == 1
            tasks = [await db.tasks.get(one["id"]) for one in ids]
            assert [(task and task["state"], task and task["attempt"]) for task in tasks] == [("waiting", 0)] * 2

    run(steps())


def test_a_worker_ends_with_its_database(db: kappa_core.Kappa) -> None:
    worker = db.worker("work", lambda task: None, concurrency=3)
    assert ended(db, db.tasks.enqueue("work")["id"])["state"] == "completed"
    db.close()
    worker.wait()
    assert worker.stop() == 0


def test_a_batch_enqueues_with_its_documents(open_database: Any, run: Any) -> None:
    """A task whose document does not exist, or a document that nobody works on, must not come about."""

    async def steps() -> None:
        db = await open_database()
        batch = db.batch().create("orders", {"id": "o1"}).enqueue("mail", {"order": "o1"}, priority=5)
        document, task = await settle(batch.commit())
        assert (document["id"], task["queue"], task["priority"], task["existing"]) == ("o1", "mail", 5, False)
        refused = db.batch().enqueue("mail", {"order": "o1"}).create("orders", {"id": "o1"})
        with pytest.raises(kappa_core.AlreadyExistsError):
            await settle(refused.commit())
        assert (await settle(db.tasks.queue("mail")))["waiting"] == 1
        await settle(db.close())

    run(steps())


@pytest.mark.parametrize(
    "call",
    [
        lambda tasks: tasks.enqueue(""),
        lambda tasks: tasks.enqueue(1),
        lambda tasks: tasks.enqueue("bad name"),
        lambda tasks: tasks.enqueue("q", {1, 2}),
        lambda tasks: tasks.enqueue("q", float("nan")),
        lambda tasks: tasks.enqueue("q", "\ud800"),
        lambda tasks: tasks.enqueue("q", priority=101),
        lambda tasks: tasks.enqueue("q", priority="1"),
        lambda tasks: tasks.enqueue("q", priority=True),
        lambda tasks: tasks.enqueue("q", delay=-1),
        lambda tasks: tasks.enqueue("q", delay="5 s"),
        lambda tasks: tasks.enqueue("q", delay=float("inf")),
        lambda tasks: tasks.enqueue("q", delay=timedelta(seconds=-1)),
        lambda tasks: tasks.enqueue("q", delay=1, due_at=1),
        lambda tasks: tasks.enqueue("q", due_at=datetime(2030, 1, 1)),
        lambda tasks: tasks.enqueue("q", due_at="tomorrow"),
        lambda tasks: tasks.enqueue("q", attempts=0),
        lambda tasks: tasks.enqueue("q", backoff={"base": 1}),
        lambda tasks: tasks.enqueue("q", backoff=[]),
        lambda tasks: tasks.enqueue("q", backoff={"first": 1}),
        lambda tasks: tasks.enqueue("q", timeout=0),
        lambda tasks: tasks.enqueue("q", unique=""),
        lambda tasks: tasks.enqueue("q", parent=-1),
        lambda tasks: tasks.enqueue("q", idempotency_key=1),
        lambda tasks: tasks.enqueue_many(["q"]),
        lambda tasks: tasks.enqueue_many([{"params": 1}]),
        lambda tasks: tasks.enqueue_many([{"queue": "q", "prority": 1}]),
        lambda tasks: tasks.enqueue_many([{"queue": "q"}, {"queue": "q", "attempts": 0}]),
        lambda tasks: tasks.get("1"),
        lambda tasks: tasks.get(-1),
        lambda tasks: tasks.page("q", state="done"),
        lambda tasks: tasks.page("q", after="nonsense"),
        lambda tasks: tasks.configure("q", concurrency=0),
        lambda tasks: tasks.configure("q", rate=1),
        lambda tasks: tasks.configure("q", rate=(0, 1)),
        lambda tasks: tasks.put_schedule("s", "every day", {"queue": "q"}),
        lambda tasks: tasks.put_schedule("s", "* * * * *", {"queue": "q"}, time_zone="Nowhere"),
        lambda tasks: tasks.put_schedule("s", "* * * * *", {"queue": "q"}, misfire="never"),
    ],
)
def test_bad_input_is_refused_and_adds_nothing(db: kappa_core.Kappa, call: Any) -> None:
    with pytest.raises(kappa_core.InvalidInputError) as refused:
        call(db.tasks)
    assert str(refused.value)
    assert db.tasks.queues() == []
    assert db.tasks.schedules() == []


@pytest.mark.parametrize(
    "start",
    [
        lambda db: db.worker("q", None),
        lambda db: db.worker("", print),
        lambda db: db.worker([], print),
        lambda db: db.worker("q", print, concurrency=0),
        lambda db: db.worker("q", print, concurrency="1"),
        lambda db: db.worker("q", print, lease=0.5),
        lambda db: db.worker("q", print, grace=-1),
        lambda db: db.worker("q", print, name="x" * 129),
        lambda db: db.worker("q", asyncio.sleep),
    ],
)
def test_a_worker_that_cannot_work_is_refused(db: kappa_core.Kappa, start: Any) -> None:
    with pytest.raises(kappa_core.InvalidInputError):
        start(db)


def test_a_lock_that_is_held_longer_than_the_lease_costs_no_second_run(tmp_path: Path) -> None:
    """Leases that are renewed by Python would be lost here, and another worker would run the task again."""
    with child(BLOCKING, tmp_path / "data", str(BLOCKED)) as process:
        said, _ = process.communicate(timeout=WITHIN)
    assert (said, process.returncode) == ("once\n", 0)


@pytest.mark.parametrize("role", ["client", "exit"])
def test_a_worker_that_is_killed_or_ends_loses_no_task(tmp_path: Path, role: str) -> None:
    """Killed: the lease ends, and the task runs again. Ended with an open worker: the task was handed back."""
    with kappa_core.open(tmp_path / "data", mode="owner") as db, child(STUCK, tmp_path / "data", role) as process:
        id = db.tasks.enqueue("kill")["id"]
        assert process.stdout and process.stdout.readline() == "began\n"
        if role == "client":
            process.kill()
        else:
            process.communicate("end\n", timeout=WITHIN)
            assert process.returncode == 0
        process.wait(WITHIN)
        with db.worker("kill", lambda task: task.attempt):
            done = ended(db, id)
        assert (done["state"], done["result"]) == ("completed", 2 if role == "client" else 1)


@pytest.mark.parametrize("define", ["def", "async def"])
def test_the_command_works_until_it_is_told_to_stop(tmp_path: Path, define: str) -> None:
    (tmp_path / "app.py").write_text(APP.format(path=str(tmp_path / "data"), define=define))
    with kappa_core.open(tmp_path / "data", mode="owner") as db:
        command = [sys.executable, "-m", "kappa_core", "worker", "app:queue"]
        with subprocess.Popen(command, cwd=tmp_path, env=dict(os.environ), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout and "mail" in process.stdout.readline()
            task = db.tasks.enqueue("mail", {"to": "ana"})
            assert ended(db, task["id"])["result"] == {"sent": "ana"}
            process.send_signal(signal.SIGTERM)
            assert process.wait(WITHIN) == 0
