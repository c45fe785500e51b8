"""Writes that happen together or not at all, for threads that may wait."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar, cast

from . import _kappa_core
from .tasks import new_task
from .types import Backoff, DocumentLike, Duration

_Self = TypeVar("_Self", bound="Gathering")


class Gathering:
    """What both kinds of batches share: at most 1 000 operations over any collections."""

    __slots__ = ("_batch",)

    def __init__(self, batch: _kappa_core.Batch) -> None:
        self._batch = batch

    def create(
        self: _Self, collection: str, document: DocumentLike, *, ttl: Duration | None = None
    ) -> _Self:
        """Adds a document."""
        self._batch.create(collection, document, ttl)
        return self

    def replace(
        self: _Self,
        collection: str,
        id: str,
        document: DocumentLike,
        *,
        if_version: str | None = None,
        ttl: Duration | None = None,
    ) -> _Self:
        """Sets all fields of a document."""
        self._batch.replace(collection, id, document, if_version, ttl)
        return self

    def update(
        self: _Self,
        collection: str,
        id: str,
        patch: DocumentLike,
        *,
        if_version: str | None = None,
        ttl: Duration | None = None,
    ) -> _Self:
        """Sets the fields that ``patch`` names; None removes a field."""
        self._batch.update(collection, id, patch, if_version, ttl)
        return self

    def delete(self: _Self, collection: str, id: str, *, if_version: str | None = None) -> _Self:
        """Removes a document."""
        self._batch.delete(collection, id, if_version)
        return self

    def enqueue(
        self: _Self,
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
    ) -> _Self:
        """Adds a task, with the options of :meth:`kappa_core.Tasks.enqueue`: it exists if the documents do."""
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
        self._batch.enqueue(new_task(queue, params, options))
        return self


class Batch(Gathering):
    """Nothing happens before :meth:`commit`."""

    __slots__ = ()

    def commit(self, *, idempotency_key: str | None = None) -> list[Any]:
        """Runs all of it: a document for each write, for a delete whether there was one, and for a task what
        ``enqueue`` gives.

        Raises the error of the first operation that failed, with its position in ``context["operation"]``;
        nothing was written then.
        """
        return cast(list[Any], self._batch.commit(idempotency_key).wait())
