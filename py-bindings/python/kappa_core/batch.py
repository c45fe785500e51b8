"""Writes that happen together or not at all, for threads that may wait."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from . import _kappa_core
from .types import DocumentLike, Duration

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


class Batch(Gathering):
    """Nothing happens before :meth:`commit`."""

    __slots__ = ()

    def commit(self, *, idempotency_key: str | None = None) -> list[Any]:
        """Runs all of it: a document for each write, and for a delete whether there was one.

        Raises the error of the first operation that failed, with its position in ``context["operation"]``;
        nothing was written then.
        """
        return cast(list[Any], self._batch.commit(idempotency_key).wait())
