"""Workers, for asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, TypeAlias, cast

from .. import _kappa_core
from ..types import Duration
from ..worker import RunningTask, Threads, failed
from ._loop import answer

Handler: TypeAlias = Callable[[RunningTask], Awaitable[Any] | Any]
"""What runs a task: an ``async def`` on the event loop, a ``def`` on threads."""

WATCH_AFTER = 0.02
"""Runs that take longer than this, in seconds, are watched for what should end them; most have ended by then."""


class Worker:
    """See :class:`kappa_core.Worker`. An async handler that should end is cancelled."""

    __slots__ = ("__weakref__", "_handler", "_pump", "_running", "_threads", "_worker")

    def __init__(self, worker: _kappa_core.Worker, handler: Handler, concurrency: int) -> None:
        self._worker = worker
        self._handler = handler
        self._running: set[asyncio.Task[None]] = set()
        self._threads: Threads | None = None
        self._pump: asyncio.Task[None] | None = None
        called = getattr(handler, "__call__", None)
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(called):
            self._pump = asyncio.get_running_loop().create_task(self._take())
        else:
            self._threads = Threads(worker, handler, concurrency)

    async def _take(self) -> None:
        """Begins a run for each job; there are never more than the worker has slots."""
        worker, loop = self._worker, asyncio.get_running_loop()
        while (job := await answer(worker.next())) is not None:
            while job is not None:
                run = loop.create_task(self._perform(job))
                self._running.add(run)
                run.add_done_callback(self._running.discard)
                job = worker.next_within(0)

    async def _perform(self, job: _kappa_core.Job) -> None:
        run = asyncio.current_task()
        watch: asyncio.Task[None] | None = None

        def begin() -> None:
            nonlocal watch
            watch = asyncio.get_running_loop().create_task(_cancel_when_interrupted(job, run))

        later = asyncio.get_running_loop().call_later(WATCH_AFTER, begin)
        try:
            job.complete(await self._handler(RunningTask(job)))
        except asyncio.CancelledError as error:
            if job.interrupt() is None:
                # The loop ends: another worker goes on with the task.
                job.release()
                raise
            failed(job, error)
        except (KeyboardInterrupt, SystemExit):
            job.release()
            raise
        except BaseException as error:
            failed(job, error)
        finally:
            later.cancel()
            if watch is not None:
                watch.cancel()

    async def stop(self, *, grace: Duration | None = None) -> int:
        """See :meth:`kappa_core.Worker.stop`."""
        unfinished = cast(int, await answer(self._worker.stop(grace)))
        if unfinished == 0:
            await self.wait()
        return unfinished

    async def wait(self) -> None:
        """See :meth:`kappa_core.Worker.wait`."""
        if self._threads is not None:
            await asyncio.to_thread(self._threads.join)
        if self._pump is not None:
            # Shielded: who gives up the wait does not stop the worker.
            await asyncio.shield(self._pump)
            if self._running:
                await asyncio.wait(self._running)

    async def __aenter__(self) -> Worker:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def _cancel_when_interrupted(job: _kappa_core.Job, run: asyncio.Task[None] | None) -> None:
    await answer(job.interrupted())
    if run is not None:
        run.cancel()
