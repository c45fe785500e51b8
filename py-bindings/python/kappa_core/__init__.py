"""Kappa: the backend core of a small team in one native library.

    import kappa_core

    with kappa_core.open("data") as db:
        mate = db.products.create({"title": "Mate", "price": 12.5})
        db.products.update(mate["id"], {"price": 13})
        for product in db.products.list():
            print(product)

``kappa_core.aio`` has the same for asyncio.
"""

from . import aio
from ._kappa_core import VERSION as __version__
from ._kappa_core import Histogram
from .batch import Batch
from .changes import Changes
from .errors import (
    AlreadyExistsError,
    AmbiguousError,
    CancelledError,
    ClosedError,
    ConflictError,
    DamagedError,
    ExpiredError,
    IndexBuildingError,
    InternalError,
    InvalidInputError,
    KappaError,
    LockedError,
    NotFoundError,
    OverloadedError,
    StorageFullError,
    TooLargeError,
    UnavailableError,
    UnsupportedError,
    VersionMismatchError,
)
from .kappa import Kappa, connect, cpu_info, histogram, in_memory, open
from .queue import Queue
from .store import Collection, Products, Users
from .tasks import Tasks
from .types import (
    Change,
    CollectionInfo,
    CpuInfo,
    Document,
    DocumentLike,
    Entry,
    IndexDefinition,
    Info,
    NewTask,
    Page,
    QueueInfo,
    ScheduleInfo,
    Task,
    TaskPage,
)
from .worker import Discard, RunningTask, Worker

__all__ = [
    "AlreadyExistsError",
    "AmbiguousError",
    "Batch",
    "CancelledError",
    "Change",
    "Changes",
    "ClosedError",
    "Collection",
    "CollectionInfo",
    "ConflictError",
    "CpuInfo",
    "DamagedError",
    "Discard",
    "Document",
    "DocumentLike",
    "Entry",
    "ExpiredError",
    "Histogram",
    "IndexBuildingError",
    "IndexDefinition",
    "Info",
    "InternalError",
    "InvalidInputError",
    "Kappa",
    "KappaError",
    "LockedError",
    "NewTask",
    "NotFoundError",
    "OverloadedError",
    "Page",
    "Products",
    "Queue",
    "QueueInfo",
    "RunningTask",
    "ScheduleInfo",
    "StorageFullError",
    "Task",
    "TaskPage",
    "Tasks",
    "TooLargeError",
    "UnavailableError",
    "UnsupportedError",
    "Users",
    "VersionMismatchError",
    "Worker",
    "__version__",
    "aio",
    "connect",
    "cpu_info",
    "histogram",
    "in_memory",
    "open",
]
