"""One open database, for threads that may wait."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import Literal, cast

from . import _exit, _kappa_core
from ._options import named
from .batch import Batch
from .changes import Changes
from .store import Collection, Products, Users
from .tasks import Tasks
from .types import CollectionInfo, CpuInfo, Duration, Index, Info
from .worker import Handler, Worker, started


class Kappa:
    """One open database. Use it as a context manager, or call :meth:`close`.

    All methods may be called from many threads at once; while one waits, others run.
    """

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

    def collection(
        self, name: str, *, indexes: Iterable[Index] | None = None, ttl: Duration | None = None
    ) -> Collection:
        """The collection ``name``; with ``indexes`` or ``ttl`` it is declared so, and ready when this returns."""
        collection = Collection(self._database.collection(name))
        if indexes is not None or ttl is not None:
            collection.declare(indexes=indexes, ttl=ttl)
        return collection

    def collections(self) -> list[CollectionInfo]:
        """Every collection that was declared or written, by name."""
        return cast(list[CollectionInfo], self._database.collections().wait())

    def batch(self) -> Batch:
        """Writes that happen together or not at all."""
        return Batch(self._database.batch())

    def changes(self, after: str | None = None, *, start: Literal["now", "oldest"] = "now") -> Changes:
        """The changes from now on, from the oldest that is kept, or behind a cursor."""
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
        """Runs ``handler`` on the tasks of a queue, or of several, on at most ``concurrency`` threads.

        lease: when this process dies, its tasks run again after so long at most; 30 s.
        grace: how long a stop waits for handlers; 30 s. name: what people see as the task's worker.
        """
        options = {"concurrency": concurrency, "lease": lease, "grace": grace, "name": name}
        native = started(self._database, queue, handler, options)
        return Worker(native, handler, concurrency)

    def info(self) -> Info:
        """How the database stands."""
        return cast(Info, self._database.info().wait())

    def check(self) -> list[str]:
        """Reads everything that is stored and says in words what is damaged; empty when all is well."""
        return cast(list[str], self._database.check().wait())

    def ready(self) -> None:
        """Returns when reads and writes are being answered, and raises otherwise."""
        self._database.ready().wait()

    def close(self) -> None:
        """Waits for writes in flight, marks a clean end and releases the directory. Closing again does nothing."""
        self._database.close().wait()

    def __enter__(self) -> Kappa:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
) -> Kappa:
    """Opens the database in the directory ``path``, made if it is not there; many processes may open it at once.

    mode: ``auto``: this process owns the directory, or asks the one that does, and takes over when that one ends;
    ``owner``: this process or none; ``client``: another process.
    durability: when an answer may leave: ``written`` (in the system), ``synced`` (on disk).
    view: where documents are read from: ``sled`` (more data than memory) or ``memory``.
    decimals: read numbers with a fraction as ``Decimal`` with all digits, and accept ``Decimal``.
    deadline: how long a write waits for room before it raises ``OverloadedError``, and any call for another process that
    owns the directory before it raises ``UnavailableError`` or, where it wrote, ``AmbiguousError``; 10 s.
    network_disk: the directory may lie on a network file system (NFS, SMB, AFS), although locks and syncs may not hold there:
    two machines could own it at once; without it opening one raises ``UnsupportedError``.
    The others bound memory and disk; 16 MiB of writes may wait, and two memtables have 48 MiB each and a cache 64.

    Raises ``LockedError`` when another process owns it and this one must, and ``DamagedError`` naming file and offset.
    """
    options = named(locals())
    return Kappa(_kappa_core.open(path, options).wait())


def in_memory(
    *, decimals: bool = False, deadline: Duration | None = None, intake_bytes: int | None = None
) -> Kappa:
    """A database in memory, gone when it is closed."""
    options = named(locals())
    return Kappa(_kappa_core.in_memory(options).wait())


def connect(
    url: str, *, token: str | None = None, decimals: bool = False, deadline: Duration | None = None
) -> Kappa:
    """The database behind the server at ``url``, such as ``http://127.0.0.1:8080``: the same calls, and the same errors.

    token: sent as ``Authorization: Bearer``, for the proxy before the server.
    deadline: how long a call may take, reconnecting included; 10 s.

    A call that meets a broken connection is sent again, and a write is done once all the same. Closing ends the
    connection, not the database. Raises ``InvalidInputError`` where something else answers at the URL,
    ``UnavailableError`` when nobody does, and ``UnsupportedError`` for https, which a proxy on this host speaks.
    """
    return Kappa(_kappa_core.connect(url, token, {"decimals": decimals, "deadline": deadline}).wait())


def histogram(
    count: int | None = None,
    *,
    range: tuple[int, int] | None = None,
    seed: int | None = None,
    method: Literal["draw", "multinomial"] = "draw",
    threads: int | None = None,
) -> _kappa_core.Histogram:
    """Counts how often each value of ``range`` comes up among ``count`` uniform random draws.

    10^8 draws of 1 to 1 000 on all processors but one unless told otherwise; the same seed gives the same counts on
    any number of threads.
    ``draw`` makes every draw, ``multinomial`` samples the counts themselves. Ctrl-C stops the run.
    """
    return cast(_kappa_core.Histogram, _kappa_core.histogram(count, range, seed, method, threads).wait())


def cpu_info() -> CpuInfo:
    """The processor, memory and system under this process."""
    return cast(CpuInfo, _kappa_core.cpu_info())
