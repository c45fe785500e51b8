"""Handlers for the tasks of a database, as ``python -m kappa_core worker`` runs them."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from . import aio
from .errors import InvalidInputError
from .kappa import Kappa, connect, open
from .types import Duration
from .worker import Worker

_Handler = TypeVar("_Handler", bound=Callable[..., Any])

LOOK = 1.0
"""How often a waiting main thread looks whether its workers have ended by themselves, in seconds."""


class Queue:
    """A database and the handlers of its tasks.

        queue = Queue("data")

        @queue.handler("mail", concurrency=4)
        def mail(task):
            send(task.params["to"])

    ``python -m kappa_core worker app:queue`` runs them until it is told to stop.
    """

    __slots__ = ("_handlers", "_options", "_place")

    def __init__(self, place: str | os.PathLike[str], **options: Any) -> None:
        """The directory of the database with the options of :func:`kappa_core.open`, or the URL of a server."""
        self._place = place
        self._options = options
        self._handlers: list[tuple[str, Callable[..., Any], dict[str, Any]]] = []

    def handler(
        self,
        queue: str,
        *,
        concurrency: int = 1,
        lease: Duration | None = None,
        grace: Duration | None = None,
        name: str | None = None,
    ) -> Callable[[_Handler], _Handler]:
        """Makes a function the handler of a queue, with the options of :meth:`kappa_core.Kappa.worker`."""
        options = {"concurrency": concurrency, "lease": lease, "grace": grace, "name": name}

        def remember(handler: _Handler) -> _Handler:
            self._handlers.append((queue, handler, options))
            return handler

        return remember

    def run(self) -> int:
        """Works until SIGTERM or SIGINT, then stops gracefully; gives how many runs had not ended and were handed back.

        A second signal ends the process at once. Async handlers share one event loop.
        """
        if not self._handlers:
            raise InvalidInputError("there is no handler to run")
        asked = threading.Event()

        def ask(*_: object) -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            asked.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask)
        if any(inspect.iscoroutinefunction(handler) for _, handler, _ in self._handlers):
            return asyncio.run(self._run_on_a_loop(asked))
        with self._open() as db:
            workers = [db.worker(queue, handler, **options) for queue, handler, options in self._handlers]
            self._tell()
            while not asked.wait(LOOK):
                pass
            return sum(_side_by_side(workers))

    async def _run_on_a_loop(self, asked: threading.Event) -> int:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def ask() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ask)
        async with aio.connect(str(self._place), **self._options) if self._is_url() else aio.open(
            self._place, **self._options
        ) as db:
            workers = [db.worker(queue, handler, **options) for queue, handler, options in self._handlers]
            self._tell()
            if not asked.is_set():
                await stop.wait()
            return sum(await asyncio.gather(*(worker.stop() for worker in workers)))

    def _is_url(self) -> bool:
        return isinstance(self._place, str) and self._place.startswith(("http://", "https://"))

    def _open(self) -> Kappa:
        if self._is_url():
            return connect(str(self._place), **self._options)
        return open(self._place, **self._options)

    def _tell(self) -> None:
        print("kappa worker: waits for tasks of", ", ".join(queue for queue, _, _ in self._handlers), flush=True)


def _side_by_side(workers: list[Worker]) -> list[int]:
    """Stops all workers within the grace of one."""
    unfinished = [0] * len(workers)

    def stop(number: int) -> None:
        unfinished[number] = workers[number].stop()

    threads = [threading.Thread(target=stop, args=(number,)) for number in range(len(workers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return unfinished
