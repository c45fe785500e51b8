"""Workers: threads that run tasks."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeAlias, cast

from . import _exit, _kappa_core
from .errors import CancelledError, InvalidInputError
from .types import Duration, Task

LOOK_MS = 1_000
"""How often an idle thread looks whether its worker has ended."""

_log = logging.getLogger("kappa_core")


class Discard(Exception):
    """Raised by a handler when no further run would help: the task is a dead letter at once."""


class RunningTask:
    """A task in the hands of its handler."""

    __slots__ = ("_job", "_task")

    def __init__(self, job: _kappa_core.Job) -> None:
        self._job = job
        self._task = cast(Task, job.task())

    @property
    def id(self) -> int:
        """The number of the task."""
        return self._task["id"]

    @property
    def queue(self) -> str:
        """Where it waited."""
        return self._task["queue"]

    @property
    def kind(self) -> str:
        """What was asked for; the queue's name unless it was given."""
        return self._task["kind"]

    @property
    def params(self) -> Any:
        """What it should be run with."""
        return self._task["params"]

    @property
    def attempt(self) -> int:
        """Which run this is, from 1."""
        return self._task["attempt"]

    @property
    def max_attempts(self) -> int:
        """Runs at most."""
        return self._task["max_attempts"]

    @property
    def info(self) -> Task:
        """The task as it was claimed."""
        return self._task

    @property
    def fence(self) -> tuple[int, int]:
        """A fencing token: the task and the number of the run, which rises with each.

        Give it to whatever the run writes to, so that the receiver can refuse what comes from an older run.
        """
        return self._job.fence()

    @property
    def cancelled(self) -> bool:
        """Whether the run should end; whatever the handler raises then ends it."""
        return self._job.interrupt() is not None

    @property
    def interrupt(self) -> str | None:
        """Why the run should end: ``cancelled``, ``timed_out``, ``lease_lost`` or ``stopped``; None while it should not."""
        return self._job.interrupt()

    def progress(self, progress: float) -> None:
        """Says how far the run is, from 0 to 1; kept at most once a second, the newest value."""
        self._job.progress(progress)

    def raise_if_cancelled(self) -> None:
        """Ends the run where it should end."""
        if (why := self._job.interrupt()) is not None:
            raise CancelledError("the run should end", context={"interrupt": why})

    def wait_cancelled(self, timeout: Duration) -> bool:
        """Sleeps so long, or until the run should end; whether it should."""
        return self._job.interrupted_within(timeout)


Handler: TypeAlias = Callable[[RunningTask], Any]
"""What runs a task; what it returns is the result, what it raises a failure."""


def failed(job: _kappa_core.Job, error: BaseException) -> None:
    """Reports what a handler raised."""
    # Reported as cancelled by core where somebody cancelled the task.
    _log.warning("a handler failed", exc_info=error)
    said = str(error)
    text = said if isinstance(error, Discard) and said else f"{type(error).__name__}: {said}"
    job.fail(text.encode("utf-8", "replace").decode(), not isinstance(error, Discard))


def started(
    database: _kappa_core.Database,
    queue: str | list[str],
    handler: Any,
    options: dict[str, Any],
    on_loop: bool = False,
) -> _kappa_core.Worker:
    """A worker of core's for this handler."""
    if not callable(handler):
        raise InvalidInputError("a handler is a function", context={"got": type(handler).__name__})
    if not on_loop and inspect.iscoroutinefunction(handler):
        raise InvalidInputError("an async handler runs in a worker of kappa_core.aio")
    queues = [queue] if isinstance(queue, str) else queue
    return database.worker({"queues": queues, **options})


class Threads:
    """Threads that run a handler, as many as there is work for."""

    __slots__ = ("__weakref__", "_handler", "_lock", "_most", "_threads", "_worker")

    def __init__(self, worker: _kappa_core.Worker, handler: Handler, most: int) -> None:
        self._worker = worker
        self._handler = handler
        self._most = most
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        _exit.remember_threads(self)
        self._grow()

    def _grow(self) -> None:
        with self._lock:
            if len(self._threads) >= self._most:
                return
            # Not waited for at the end of the interpreter: a handler that never returns must not keep it.
            thread = threading.Thread(target=self._run, name="kappa-handler", daemon=True)
            self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        worker, handler = self._worker, self._handler
        while True:
            job = worker.next_within(LOOK_MS)
            if job is None:
                if worker.is_stopped():
                    return
                continue
            if len(self._threads) < self._most and worker.ready() > 0:
                self._grow()
            try:
                job.complete(handler(RunningTask(job)))
            # Also what means the end of a program elsewhere: a thread has nobody to tell.
            except BaseException as error:
                failed(job, error)
            # The next wait must not keep what the run has held.
            del job

    def end(self) -> None:
        """Hands everything back, and waits a moment for threads that wait for jobs."""
        if self._worker.is_foreign():
            return
        self._worker.stop(0).wait()
        self.join(0.1)

    def join(self, timeout: float | None = None) -> None:
        """Waits for threads to end, each so long."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout)


class Worker:
    """Runs a handler on the tasks of a queue, on threads, until it is stopped.

    The leases of running tasks are kept by a thread that needs neither Python nor its lock.
    """

    __slots__ = ("__weakref__", "_threads", "_worker")

    def __init__(self, worker: _kappa_core.Worker, handler: Handler, concurrency: int) -> None:
        self._worker = worker
        self._threads = Threads(worker, handler, concurrency)

    def stop(self, *, grace: Duration | None = None) -> int:
        """Claims nothing more, waits for handlers up to ``grace``, then raises their signals and hands their tasks back.

        Gives how many had not ended; their threads go on until their handlers return.
        """
        unfinished = cast(int, self._worker.stop(grace).wait())
        if unfinished == 0:
            self._threads.join()
        return unfinished

    def wait(self) -> None:
        """Returns once the worker has stopped: by :meth:`stop` in another thread, or because the database was closed."""
        self._threads.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
