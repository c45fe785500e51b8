"""The task queue, for threads that may wait."""

from __future__ import annotations

import builtins
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from . import _kappa_core
from ._progress import STEP, Bar
from .errors import InvalidInputError
from .types import (
    Backoff,
    Changed,
    Duration,
    Enqueued,
    EnqueuedId,
    Misfire,
    NewTask,
    QueueInfo,
    ScheduleInfo,
    Task,
    TaskPage,
    TaskState,
)



def new_task(queue: str, params: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """A task that is asked for, by core's names: durations in milliseconds, options that are None left out."""
    task = {"queue": queue, "params": params}
    for name, value in options.items():
        if value is None:
            continue
        if name in ("delay", "timeout"):
            task[f"{name}_ms"] = _kappa_core.milliseconds(name, value)
        elif name == "backoff":
            task[name] = backoff(value)
        elif name == "due_at":
            task[name] = moment(value)
        else:
            task[name] = value
    return task


def backoff(given: Backoff) -> dict[str, Any]:
    """A fixed time, a time for each run, or the base and the cap of an exponential one."""
    if isinstance(given, Mapping):
        rule = {f"{name}_ms": _kappa_core.milliseconds(name, value) for name, value in given.items()}
        return {"exponential": rule}
    if isinstance(given, Sequence) and not isinstance(given, str):
        return {"custom": {"ms": [_kappa_core.milliseconds("backoff", value) for value in given]}}
    return {"fixed": {"ms": _kappa_core.milliseconds("backoff", given)}}


def moment(given: datetime | int) -> Any:
    """A moment in milliseconds since 1970."""
    if not isinstance(given, datetime):
        return given
    if given.utcoffset() is None:
        raise InvalidInputError("a datetime needs a time zone; without one it is another moment elsewhere")
    return round(given.timestamp() * 1000)


def several(tasks: Iterable[NewTask]) -> list[dict[str, Any]]:
    """Tasks that are asked for together."""
    found = []
    for number, task in enumerate(tasks):
        if not isinstance(task, Mapping) or "queue" not in task:
            raise InvalidInputError("a task is a dict with a queue", context={"task": str(number)})
        rest = {name: value for name, value in task.items() if name not in ("queue", "params")}
        found.append(new_task(task["queue"], task.get("params"), rest))
    return found


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a queue by core's names."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in ("keep", "keep_failed", "timeout"):
            found[f"{name}_ms"] = _kappa_core.milliseconds(name, value)
        elif name == "backoff":
            found[name] = backoff(value)
        elif name == "rate":
            try:
                count, per = value
            except (TypeError, ValueError):
                raise InvalidInputError("a rate is how many, and in how long") from None
            found[name] = {"count": count, "per_ms": _kappa_core.milliseconds(name, per)}
        else:
            found[name] = value
    return found


def page(answer: Any) -> TaskPage:
    """One page as lists of documents have it."""
    return {"items": answer["tasks"], "cursor": answer["next"]}


def wanted(queue: str | None, state: TaskState | None, limit: int | None, after: str | None) -> dict[str, Any]:
    """Which tasks a list names."""
    given = {"queue": queue, "state": state, "limit": limit, "after": after}
    return {name: value for name, value in given.items() if value is not None}


class Tasks:
    """The task queue: tasks are kept until a worker has run them, whatever dies meanwhile.

    A task may run more than once, when its worker dies or fails; a result is accepted once. Times in tasks are
    milliseconds since 1970.
    """

    __slots__ = ("_database",)

    def __init__(self, database: _kappa_core.Database) -> None:
        self._database = database

    def _call(self, name: str, given: Any = None, idempotency_key: str | None = None) -> Any:
        return self._database.task(name, given, idempotency_key).wait()

    def enqueue(
        self,
        queue: str,
        params: Any = None,
        *,
        kind: str | None = None,
        description: str | None = None,
        priority: int | None = None,
        delay: Duration | None = None,
        due_at: datetime | int | None = None,
        attempts: int | None = None,
        backoff: Backoff | None = None,
        timeout: Duration | None = None,
        unique: str | None = None,
        parent: int | None = None,
        idempotency_key: str | None = None,
    ) -> Enqueued:
        """Adds a task, and gives it; its ``existing`` says that another task held the unique key, and is the one given.

        kind: which handler runs it; as the queue unless it is given. priority: -100 to 100, higher first.
        delay, due_at: when it may run first. attempts: runs at most, the first included. timeout: how long one may take.
        backoff: how long a failed task waits: a duration, a list with one for each run, or ``{"base", "cap"}``.
        unique: while a task of the queue with this key waits, is delayed or runs, that one is given instead.

        Raises ``OverloadedError`` when the queue is full.
        """
        options = {
            "kind": kind,
            "description": description,
            "priority": priority,
            "delay": delay,
            "due_at": due_at,
            "attempts": attempts,
            "backoff": backoff,
            "timeout": timeout,
            "unique": unique,
            "parent": parent,
        }
        return cast(Enqueued, self._call("enqueue", new_task(queue, params, options), idempotency_key))

    def enqueue_many(self, tasks: Iterable[NewTask]) -> builtins.list[EnqueuedId]:
        """Adds at most 1 000 tasks, all or none: dicts with ``queue``, ``params`` and the options of :meth:`enqueue`."""
        return cast("builtins.list[EnqueuedId]", self._call("enqueue_many", several(tasks)))

    def get(self, id: int) -> Task | None:
        """One task; None when there is none, or it is not kept any more."""
        return cast(Task | None, self._call("get", id))

    def wait(self, id: int, *, timeout: Duration | None = None, progress: bool = False) -> Task:
        """The task once it has ended: its result, its error, or that it was cancelled.

        progress: draws on standard error how far it is, where that is a terminal and ``tqdm`` is installed.

        Raises ``TimeoutError`` when it has not ended within ``timeout``, and ``NotFoundError`` when there is none.
        """
        if progress:
            return self._wait_and_show(id, timeout)
        if timeout is None:
            return cast(Task, self._database.task_ended(id).wait())
        task = self._database.task_ended(id).wait_within(timeout)
        if task is None:
            raise TimeoutError("the task has not ended yet")
        return cast(Task, task)

    def _wait_and_show(self, id: int, timeout: Duration | None) -> Task:
        left = math.inf if timeout is None else _kappa_core.milliseconds("timeout", timeout) / 1000
        until = time.monotonic() + left
        with Bar() as bar:
            while True:
                left = max(until - time.monotonic(), 0)
                task = self._database.task_ended(id).wait_within(min(left, STEP))
                if task is not None:
                    return cast(Task, task)
                if left == 0:
                    raise TimeoutError("the task has not ended yet")
                standing = self.get(id)
                if standing is not None:
                    bar.show(standing)

    def list(
        self,
        queue: str | None = None,
        *,
        state: TaskState | None = None,
        limit: int | None = None,
        page_size: int | None = None,
        after: str | None = None,
    ) -> Iterator[Task]:
        """Every task of a queue and a state, or of all; pages of 100 are fetched while it is walked."""
        left = limit
        while left is None or left > 0:
            size = page_size if left is None else min(left, page_size or 100)
            found = self.page(queue, state=state, limit=size, after=after)
            yield from found["items"]
            after = found["cursor"]
            if after is None:
                return
            left = None if left is None else left - len(found["items"])

    def page(
        self,
        queue: str | None = None,
        *,
        state: TaskState | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> TaskPage:
        """One page of at most 1 000 tasks, and the cursor to go on with."""
        return page(self._call("list", wanted(queue, state, limit, after)))

    def cancel(self, id: int) -> Changed:
        """Cancels a task: one that waits at once; one that runs is told, and is cancelled when its handler stops."""
        return cast(Changed, self._call("cancel", id))

    def retry(self, id: int) -> Changed:
        """Brings back a task that failed for good or was cancelled; a delayed one may run at once."""
        return cast(Changed, self._call("retry", id))

    def redrive(self, queue: str, limit: int = 1000) -> int:
        """Brings back dead letters of a queue, oldest first; how many."""
        left, redriven, after = limit, 0, None
        while True:
            step = self._call("redrive", {"queue": queue, "limit": left, "after": after})
            redriven, after = redriven + step["redriven"], step["next"]
            left = limit - redriven
            if after is None or left <= 0:
                return cast(int, redriven)

    def remove(self, id: int) -> bool:
        """Forgets a task that does not run; whether there was one."""
        return cast(bool, self._call("remove", id))

    def queues(self) -> builtins.list[QueueInfo]:
        """Every queue that was used or configured, by name, as it stands."""
        return cast("builtins.list[QueueInfo]", self._call("queues"))

    def queue(self, queue: str) -> QueueInfo:
        """One queue as it stands."""
        return cast(QueueInfo, self._call("queue", {"queue": queue}))

    def configure(
        self,
        queue: str,
        *,
        concurrency: int | None = None,
        rate: tuple[int, Duration] | None = None,
        max_length: int | None = None,
        keep: Duration | None = None,
        keep_count: int | None = None,
        keep_failed: Duration | None = None,
        attempts: int | None = None,
        backoff: Backoff | None = None,
        timeout: Duration | None = None,
        retry_budget: Mapping[str, int] | None = None,
    ) -> QueueInfo:
        """Sets what holds for a queue, all of it: what is not given is as it is for a new queue.

        concurrency: tasks that run at the same time, over all workers. rate: so many starts in so long.
        max_length: tasks that may wait; one more raises ``OverloadedError``. keep, keep_count, keep_failed: how long
        ended tasks are kept, how many of them, and how long dead letters. retry_budget: ``percent`` of the runs that
        began within the last minute may be retries (10; with 100 nothing is held back), and at least ``per_second`` (10);
        what fails beyond that is held back longer than its backoff says, at most a day.
        """
        given = {
            "concurrency": concurrency,
            "rate": rate,
            "max_length": max_length,
            "keep": keep,
            "keep_count": keep_count,
            "keep_failed": keep_failed,
            "attempts": attempts,
            "backoff": backoff,
            "timeout": timeout,
            "retry_budget": retry_budget,
        }
        return cast(QueueInfo, self._call("configure", {"queue": queue, "settings": settings(given)}))

    def pause(self, queue: str) -> QueueInfo:
        """Lets no worker claim from a queue; tasks that run go on."""
        return cast(QueueInfo, self._call("pause", {"queue": queue, "paused": True}))

    def resume(self, queue: str) -> QueueInfo:
        """Lets workers claim again."""
        return cast(QueueInfo, self._call("pause", {"queue": queue, "paused": False}))

    def drain(self, queue: str) -> None:
        """Cancels everything in a queue that waits or is delayed; tasks that run go on. DamagedError when tasks
        are left that cannot be read."""
        while self._call("drain", {"queue": queue}):
            pass

    def put_schedule(
        self,
        name: str,
        cron: str,
        task: NewTask,
        *,
        time_zone: str | None = None,
        misfire: Misfire | None = None,
        paused: bool | None = None,
    ) -> ScheduleInfo:
        """Enqueues ``task`` again and again, as ``cron`` says; a schedule of the same name is replaced.

        Where its times stay the same, what it has missed is still made up for as ``misfire`` says. The parameters of its task
        have at most 512 KiB.

        misfire: what happens to firings that came too late: ``skip``, ``once`` or ``all``.
        """
        return cast(
            ScheduleInfo, self._call("put_schedule", schedule(name, cron, task, time_zone, misfire, paused))
        )

    def remove_schedule(self, name: str) -> bool:
        """Ends a schedule; whether there was one. What it enqueued stays."""
        return cast(bool, self._call("remove_schedule", {"name": name}))

    def schedules(self) -> builtins.list[ScheduleInfo]:
        """Every schedule, by name, as it stands."""
        return cast("builtins.list[ScheduleInfo]", self._call("schedules"))


def schedule(
    name: str, cron: str, task: NewTask, time_zone: str | None, misfire: Misfire | None, paused: bool | None
) -> dict[str, Any]:
    """A schedule by core's names."""
    given = {"time_zone": time_zone, "misfire": misfire, "paused": paused}
    rest = {option: value for option, value in given.items() if value is not None}
    return {"name": name, "cron": cron, "task": several([task])[0], **rest}
