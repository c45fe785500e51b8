"""The shapes of what goes in and comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal, NotRequired, Protocol, TypeAlias, TypedDict

__all__ = [
    "Backoff",
    "Caches",
    "Change",
    "Changed",
    "CollectionInfo",
    "CpuInfo",
    "Definition",
    "Document",
    "DocumentLike",
    "Duration",
    "Enqueued",
    "EnqueuedId",
    "Entry",
    "ExponentialBackoff",
    "FailedAttempt",
    "FailedIndex",
    "Index",
    "IndexDefinition",
    "Info",
    "Memory",
    "Misfire",
    "NewTask",
    "OperatingSystem",
    "Page",
    "QueueInfo",
    "QueueSettings",
    "Rate",
    "RetryBudget",
    "Schedule",
    "ScheduleInfo",
    "Task",
    "TaskPage",
    "TaskState",
]

Document: TypeAlias = dict[str, Any]
"""A document as it is read: a dict with ``id`` first."""


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


class _Model(Protocol):
    def model_dump(self) -> dict[str, Any]: ...


DocumentLike: TypeAlias = Mapping[str, Any] | _Dataclass | _Model
"""A document as it is written: a dict, a dataclass or a pydantic model."""

Duration: TypeAlias = float | timedelta | str
"""Seconds, a timedelta, or a text such as ``5s``: a whole number with ms, s, m, h or d behind it."""


class IndexDefinition(TypedDict):
    """One index of a collection, to declare it."""

    field: str
    name: NotRequired[str]
    unique: NotRequired[bool]


Index: TypeAlias = str | IndexDefinition
"""The name of a field, or a definition."""


class Entry(TypedDict):
    """A document with its version."""

    value: Document
    version: str


class Page(TypedDict):
    """Some documents in order, and the cursor to go on with; None behind the last page."""

    items: list[Entry]
    cursor: str | None


class Change(TypedDict):
    """One change of one document."""

    cursor: str
    collection: str
    id: str
    kind: Literal["created", "updated", "deleted", "expired"]
    version: str
    time: int
    document: Document | None


class Definition(TypedDict):
    """What a collection was declared to promise."""

    indexes: list[IndexDefinition]
    partition_field: str | None
    ttl_ms: int | None


class FailedIndex(TypedDict):
    """An index that could not be built on the documents that were there."""

    index: str
    code: str
    detail: str


class CollectionInfo(TypedDict):
    """A collection as it stands."""

    name: str
    definition: Definition
    building: list[str]
    failed: list[FailedIndex]
    count: int


class Info(TypedDict):
    """How an open database stands; `id` tells it from all others, wherever it is moved."""

    id: str
    version: str
    durability: str
    view: str
    newest: str
    oldest: str
    partitions: int
    role: Literal["owner", "client"]
    owner_pid: int
    recovery: list[str]


class Caches(TypedDict):
    """Sizes of one cache of each level, in bytes."""

    l1d: int | None
    l1i: int | None
    l2: int | None
    l3: int | None


class Memory(TypedDict):
    """Main memory, in bytes."""

    total: int | None
    available: int | None
    limit: int | None


class OperatingSystem(TypedDict):
    """Name and version of the operating system."""

    name: str | None
    version: str | None
    kernel: str | None


class CpuInfo(TypedDict):
    """The processor, memory and system under this process; what cannot be found out is None."""

    architecture: str
    vendor: str | None
    model: str | None
    logical_cpus: int | None
    physical_cores: int | None
    parallelism: int
    frequency_mhz: int | None
    caches: Caches
    features: list[str] | None
    memory: Memory
    os: OperatingSystem


TaskState: TypeAlias = Literal["waiting", "delayed", "active", "completed", "failed", "cancelled"]
"""Where a task is in its life."""

Misfire: TypeAlias = Literal["skip", "once", "all"]
"""What happens to firings of a schedule that came too late."""


class ExponentialBackoff(TypedDict):
    """A random time up to ``base`` x 2^(runs - 1), at most ``cap``."""

    base: Duration
    cap: Duration


Backoff: TypeAlias = Duration | Sequence[Duration] | ExponentialBackoff
"""How long a failed task waits: always the same, a time for each run, or longer each time."""


class FailedAttempt(TypedDict):
    """One run that did not succeed."""

    attempt: int
    at: int
    error: str


class Task(TypedDict):
    """One task as it stands. Times are milliseconds since 1970."""

    id: int
    queue: str
    kind: str
    description: str | None
    params: Any
    priority: int
    state: TaskState
    attempt: int
    max_attempts: int
    progress: float | None
    result: Any
    error: str | None
    created_at: int
    due_at: int
    started_at: int | None
    finished_at: int | None
    unique: str | None
    parent: int | None
    worker: str | None
    cancel_requested: bool
    timeout_ms: int
    failures: list[FailedAttempt]
    redrives: int
    schedule: str | None


class Enqueued(Task):
    """The task, and whether it was there already under its unique key."""

    existing: bool


class Changed(Task):
    """The task, and whether the call changed it."""

    changed: bool


class EnqueuedId(TypedDict):
    """The number of a task, and whether it was there already under its unique key."""

    id: int
    existing: bool


class NewTask(TypedDict):
    """A task that is asked for."""

    queue: str
    params: NotRequired[Any]
    kind: NotRequired[str | None]
    description: NotRequired[str | None]
    priority: NotRequired[int | None]
    delay: NotRequired[Duration | None]
    due_at: NotRequired[datetime | int | None]
    attempts: NotRequired[int | None]
    backoff: NotRequired[Backoff | None]
    timeout: NotRequired[Duration | None]
    unique: NotRequired[str | None]
    parent: NotRequired[int | None]


class TaskPage(TypedDict):
    """Some tasks in order, and the cursor to go on with; None behind the last page."""

    items: list[Task]
    cursor: str | None


class Rate(TypedDict):
    """So many starts in so much time."""

    count: int
    per_ms: int


class RetryBudget(TypedDict):
    """How many runs may be retries."""

    percent: int
    per_second: int


class QueueSettings(TypedDict):
    """What holds for a queue."""

    concurrency: int | None
    rate: Rate | None
    max_length: int | None
    keep_ms: int
    keep_count: int
    keep_failed_ms: int
    attempts: int
    backoff: dict[str, Any]
    timeout_ms: int
    retry_budget: RetryBudget


class QueueInfo(TypedDict):
    """A queue as it stands."""

    name: str
    settings: QueueSettings
    paused: bool
    waiting: int
    delayed: int
    active: int
    completed: int
    failed: int
    cancelled: int
    head_waits_ms: int
    overdue_ms: int


class Schedule(TypedDict):
    """What was asked of a schedule."""

    name: str
    cron: str
    time_zone: str | None
    task: dict[str, Any]
    misfire: Misfire
    paused: bool


class ScheduleInfo(TypedDict):
    """A schedule as it stands."""

    schedule: Schedule
    next_at: int | None
    last_at: int | None
    last_task: int | None
    fired: int
    error: str | None
