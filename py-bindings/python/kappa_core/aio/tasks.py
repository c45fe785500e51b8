"""The task queue, for asyncio."""

from __future__ import annotations

import builtins
import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Any, cast

from .. import _kappa_core
from .._progress import STEP, Bar
from ..tasks import new_task, page, schedule, settings, several, wanted
from ..types import (
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
from ._loop import answer


class Tasks:
    """See :class:`kappa_core.Tasks`."""

    __slots__ = ("_database",)

    def __init__(self, database: _kappa_core.Database) -> None:
        self._database = database

    async def _call(self, name: str, given: Any = None, idempotency_key: str | None = None) -> Any:
        return await answer(self._database.task(name, given, idempotency_key))

    async def enqueue(
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
        """See :meth:`kappa_core.Tasks.enqueue`."""
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
        return cast(Enqueued, await self._call("enqueue", new_task(queue, params, options), idempotency_key))

    async def enqueue_many(self, tasks: Iterable[NewTask]) -> builtins.list[EnqueuedId]:
        """See :meth:`kappa_core.Tasks.enqueue_many`."""
        return cast("builtins.list[EnqueuedId]", await self._call("enqueue_many", several(tasks)))

    async def get(self, id: int) -> Task | None:
        """See :meth:`kappa_core.Tasks.get`."""
        return cast(Task | None, await self._call("get", id))

    async def wait(self, id: int, *, timeout: Duration | None = None, progress: bool = False) -> Task:
        """See :meth:`kappa_core.Tasks.wait`."""
        seconds = None if timeout is None else _kappa_core.milliseconds("timeout", timeout) / 1000
        ended = asyncio.wait_for(answer(self._database.task_ended(id)), seconds)
        if not progress:
            return cast(Task, await ended)
        with Bar() as bar:
            showing = asyncio.create_task(self._show(id, bar))
            try:
                return cast(Task, await ended)
            finally:
                showing.cancel()

    async def _show(self, id: int, bar: Bar) -> None:
        while (task := await self.get(id)) is not None:
            bar.show(task)
            await asyncio.sleep(STEP)

    async def list(
        self,
        queue: str | None = None,
        *,
        state: TaskState | None = None,
        limit: int | None = None,
        page_size: int | None = None,
        after: str | None = None,
    ) -> AsyncIterator[Task]:
        """See :meth:`kappa_core.Tasks.list`; iterate with ``async for``."""
        left = limit
        while left is None or left > 0:
            size = page_size if left is None else min(left, page_size or 100)
            found = await self.page(queue, state=state, limit=size, after=after)
            for task in found["items"]:
                yield task
            after = found["cursor"]
            if after is None:
                return
            left = None if left is None else left - len(found["items"])

    async def page(
        self,
        queue: str | None = None,
        *,
        state: TaskState | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> TaskPage:
        """See :meth:`kappa_core.Tasks.page`."""
        return page(await self._call("list", wanted(queue, state, limit, after)))

    async def cancel(self, id: int) -> Changed:
        """See :meth:`kappa_core.Tasks.cancel`."""
        return cast(Changed, await self._call("cancel", id))

    async def retry(self, id: int) -> Changed:
        """See :meth:`kappa_core.Tasks.retry`."""
        return cast(Changed, await self._call("retry", id))

    async def redrive(self, queue: str, limit: int = 1000) -> int:
        """See :meth:`kappa_core.Tasks.redrive`."""
        left, redriven, after = limit, 0, None
        while True:
            step = await self._call("redrive", {"queue": queue, "limit": left, "after": after})
            redriven, after = redriven + step["redriven"], step["next"]
            left = limit - redriven
            if after is None or left <= 0:
                return cast(int, redriven)

    async def remove(self, id: int) -> bool:
        """See :meth:`kappa_core.Tasks.remove`."""
        return cast(bool, await self._call("remove", id))

    async def queues(self) -> builtins.list[QueueInfo]:
        """See :meth:`kappa_core.Tasks.queues`."""
        return cast("builtins.list[QueueInfo]", await self._call("queues"))

    async def queue(self, queue: str) -> QueueInfo:
        """See :meth:`kappa_core.Tasks.queue`."""
        return cast(QueueInfo, await self._call("queue", {"queue": queue}))

    async def configure(
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
        """See :meth:`kappa_core.Tasks.configure`."""
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
        return cast(QueueInfo, await self._call("configure", {"queue": queue, "settings": settings(given)}))

    async def pause(self, queue: str) -> QueueInfo:
        """See :meth:`kappa_core.Tasks.pause`."""
        return cast(QueueInfo, await self._call("pause", {"queue": queue, "paused": True}))

    async def resume(self, queue: str) -> QueueInfo:
        """See :meth:`kappa_core.Tasks.resume`."""
        return cast(QueueInfo, await self._call("pause", {"queue": queue, "paused": False}))

    async def drain(self, queue: str) -> None:
        """See :meth:`kappa_core.Tasks.drain`."""
        while await self._call("drain", {"queue": queue}):
            pass

    async def put_schedule(
        self,
        name: str,
        cron: str,
        task: NewTask,
        *,
        time_zone: str | None = None,
        misfire: Misfire | None = None,
        paused: bool | None = None,
    ) -> ScheduleInfo:
        """See :meth:`kappa_core.Tasks.put_schedule`."""
        return cast(
            ScheduleInfo, await self._call("put_schedule", schedule(name, cron, task, time_zone, misfire, paused))
        )

    async def remove_schedule(self, name: str) -> bool:
        """See :meth:`kappa_core.Tasks.remove_schedule`."""
        return cast(bool, await self._call("remove_schedule", {"name": name}))

    async def schedules(self) -> builtins.list[ScheduleInfo]:
        """See :meth:`kappa_core.Tasks.schedules`."""
        return cast("builtins.list[ScheduleInfo]", await self._call("schedules"))
