"""One open database, for asyncio."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from types import TracebackType
from typing import Any, Literal, cast

from .. import _exit, _kappa_core
from .._options import named
from ..types import CollectionInfo, Duration, Index, Info
from ..worker import started
from ._loop import answer
from .batch import Batch
from .changes import Changes
from .store import Collection, Products, Users
from .tasks import Tasks
from .worker import Handler, Worker


class Kappa:
    """One open database. Use it with ``async with``, or await :meth:`close`."""

    __slots__ = ("__weakref__", "_database", "products", "tasks", "users")

    products: Products
    """Products: a title, a price from 0 up, a thumbnail URL where there is one, and fields of your own."""
    tasks: Tasks
    """The task queue."""
    users: Users
    """Users: a name, an e-mail address and a group where there are any, and fields of your own."""

    def __init__(self, database: _kappa_core.Database) -> None:
        self._database = _exit.remember(database)
        self.products = Products(database.products())
        self.tasks = Tasks(database)
        self.users = Users(database.users())

    async def collection(
        self, name: str, *, indexes: Iterable[Index] | None = None, ttl: Duration | None = None
    ) -> Collection:
        """See :meth:`kappa_core.Kappa.collection`."""
        collection = Collection(self._database.collection(name))
        if indexes is not None or ttl is not None:
            await collection.declare(indexes=indexes, ttl=ttl)
        return collection

    async def collections(self) -> list[CollectionInfo]:
        """See :meth:`kappa_core.Kappa.collections`."""
        return cast(list[CollectionInfo], await answer(self._database.collections()))

    def batch(self) -> Batch:
        """Writes that happen together or not at all."""
        return Batch(self._database.batch())

    def changes(self, after: str | None = None, *, start: Literal["now", "oldest"] = "now") -> Changes:
        """See :meth:`kappa_core.Kappa.changes`; iterate with ``async for``."""
        return Changes(self._database.changes(after, start))

    def worker(
        self,
        queue: str | list[str],
        handler: Handler,
        *,
        concurrency: int = 1,
        lease: Duration | None = None,
        grace: Duration | None = None,
        name: str | None = None,
    ) -> Worker:
        """See :meth:`kappa_core.Kappa.worker`; an async handler runs on this event loop."""
        options = {"concurrency": concurrency, "lease": lease, "grace": grace, "name": name}
        native = started(self._database, queue, handler, options, on_loop=True)
        return Worker(native, handler, concurrency)

    async def info(self) -> Info:
        """See :meth:`kappa_core.Kappa.info`."""
        return cast(Info, await answer(self._database.info()))

    async def check(self) -> list[str]:
        """See :meth:`kappa_core.Kappa.check`."""
        return cast(list[str], await answer(self._database.check()))

    async def ready(self) -> None:
        """See :meth:`kappa_core.Kappa.ready`."""
        await answer(self._database.ready())

    async def close(self) -> None:
        """See :meth:`kappa_core.Kappa.close`."""
        await answer(self._database.close())

    async def __aenter__(self) -> Kappa:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Opening:
    """A database that is being opened: await it, or use it with ``async with``."""

    __slots__ = ("_call", "_kappa")

    def __init__(self, call: _kappa_core.Call) -> None:
        self._call = call
        self._kappa: Kappa | None = None

    async def _open(self) -> Kappa:
        return Kappa(await answer(self._call))

    def __await__(self) -> Generator[Any, None, Kappa]:
        return self._open().__await__()

    async def __aenter__(self) -> Kappa:
        self._kappa = await self._open()
        return self._kappa

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kappa is not None:
            await self._kappa.close()


def open(
    path: str | os.PathLike[str],
    *,
    mode: Literal["auto", "owner", "client"] = "auto",
    durability: Literal["written", "synced", "replicated"] = "synced",
    view: Literal["sled", "memory"] = "sled",
    decimals: bool = False,
    deadline: Duration | None = None,
    intake_bytes: int | None = None,
    memtable_bytes: int | None = None,
    cache_bytes: int | None = None,
    log_retention_bytes: int | None = None,
    log_retention: Duration | None = None,
    segment_bytes: int | None = None,
    merge_bytes: int | None = None,
    network_disk: bool = False,
) -> Opening:
    """Opens the database in the directory ``path``; see :func:`kappa_core.open`."""
    options = named(locals())
    return Opening(_kappa_core.open(path, options))


def in_memory(
    *, decimals: bool = False, deadline: Duration | None = None, intake_bytes: int | None = None
) -> Opening:
    """A database in memory, gone when it is closed."""
    options = named(locals())
    return Opening(_kappa_core.in_memory(options))


def connect(
    url: str, *, token: str | None = None, decimals: bool = False, deadline: Duration | None = None
) -> Opening:
    """The database behind the server at ``url``; see :func:`kappa_core.connect`."""
    return Opening(_kappa_core.connect(url, token, {"decimals": decimals, "deadline": deadline}))


async def histogram(
    count: int | None = None,
    *,
    range: tuple[int, int] | None = None,
    seed: int | None = None,
    method: Literal["draw", "multinomial"] = "draw",
    threads: int | None = None,
) -> _kappa_core.Histogram:
    """See :func:`kappa_core.histogram`; cancelling the task stops the run."""
    call = _kappa_core.histogram(count, range, seed, method, threads)
    return cast(_kappa_core.Histogram, await answer(call))
