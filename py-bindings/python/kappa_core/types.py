"""The shapes of what goes in and comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field
from datetime import timedelta
from typing import Any, ClassVar, Literal, NotRequired, Protocol, TypeAlias, TypedDict

__all__ = [
    "Caches",
    "Change",
    "CollectionInfo",
    "CpuInfo",
    "Definition",
    "Document",
    "DocumentLike",
    "Duration",
    "Entry",
    "FailedIndex",
    "Index",
    "IndexDefinition",
    "Info",
    "Memory",
    "OperatingSystem",
    "Page",
]

Document: TypeAlias = dict[str, Any]
"""A document as it is read: a dict with ``id`` first."""


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


class _Model(Protocol):
    def model_dump(self) -> dict[str, Any]: ...


DocumentLike: TypeAlias = Mapping[str, Any] | _Dataclass | _Model
"""A document as it is written: a dict, a dataclass or a pydantic model."""

Duration: TypeAlias = float | timedelta
"""Seconds, or a timedelta."""


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
    """How an open database stands."""

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
