"""Products, users and collections, for threads that may wait."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from typing import Any, cast

from . import _kappa_core
from ._bounds import MISSING
from ._described import Described
from .types import CollectionInfo, Document, DocumentLike, Duration, Entry, Index, Page


class Collection(Described):
    """The documents of one collection."""

    __slots__ = ()

    def create(
        self, document: DocumentLike, *, ttl: Duration | None = None, idempotency_key: str | None = None
    ) -> Document:
        """Adds a document and gives it back, with a UUID v7 as its id where it names none.

        Raises ``AlreadyExistsError`` for an id or unique value that is taken.
        """
        return cast(Document, self._store.create(document, ttl, idempotency_key).wait())

    def get(self, id: str) -> Document | None:
        """One document, or None."""
        return cast("Document | None", self._store.get(id).wait())

    def entry(self, id: str) -> Entry | None:
        """One document with its version, or None."""
        return cast("Entry | None", self._store.entry(id).wait())

    def get_many(self, ids: Iterable[str]) -> builtins.list[Document | None]:
        """At most 1 000 documents in the order asked, None where there is none."""
        return cast("builtins.list[Document | None]", self._store.get_many(ids).wait())

    def replace(
        self,
        id: str,
        document: DocumentLike,
        *,
        if_version: str | None = None,
        ttl: Duration | None = None,
        idempotency_key: str | None = None,
    ) -> Document:
        """Sets all fields of a document and gives it back.

        Raises ``NotFoundError``, and ``VersionMismatchError`` when it no longer has the version ``if_version``.
        """
        return cast(Document, self._store.replace(id, document, if_version, ttl, idempotency_key).wait())

    def update(
        self,
        id: str,
        patch: DocumentLike,
        *,
        if_version: str | None = None,
        ttl: Duration | None = None,
        idempotency_key: str | None = None,
    ) -> Document:
        """Sets the fields that ``patch`` names and gives the document back; None removes a field (RFC 7396)."""
        return cast(Document, self._store.update(id, patch, if_version, ttl, idempotency_key).wait())

    def delete(self, id: str, *, if_version: str | None = None, idempotency_key: str | None = None) -> bool:
        """Removes a document; tells whether there was one."""
        return cast(bool, self._store.delete(id, if_version, idempotency_key).wait())

    def count(self) -> int:
        """How many documents there are; ones whose time just ended may still be counted."""
        return cast(int, self._store.count().wait())

    def list(
        self,
        index: str | None = None,
        *,
        equal: Any = MISSING,
        from_: Any = MISSING,
        to: Any = MISSING,
        reverse: bool = False,
        limit: int | None = None,
        page_size: int | None = None,
        after: str | None = None,
    ) -> Iterator[Document]:
        """Every document, in creation order or that of an index.

        Pages of 100 are fetched while it is walked; the one behind a page of more than 128 KiB is fetched ahead.
        equal, from_, to: only documents with these values of the index, both ends included.
        """
        return _walk(self._pages(index, (equal, from_, to), reverse, limit, page_size, after))

    def page(
        self,
        index: str | None = None,
        *,
        equal: Any = MISSING,
        from_: Any = MISSING,
        to: Any = MISSING,
        reverse: bool = False,
        limit: int | None = None,
        page_size: int | None = None,
        after: str | None = None,
    ) -> Page:
        """One page with versions, and the cursor to go on with."""
        pages = self._pages(index, (equal, from_, to), reverse, limit, page_size, after)
        return cast(Page, pages.page().wait())

    def declare(
        self,
        *,
        indexes: Iterable[Index] | None = None,
        ttl: Duration | None = None,
        partition_field: str | None = None,
    ) -> CollectionInfo:
        """Makes sure that indexes and rules hold, and waits until new indexes hold every document."""
        return cast(CollectionInfo, self._store.declare(indexes, ttl, partition_field).wait())

    def drop_index(self, name: str) -> CollectionInfo:
        """Removes an index."""
        return cast(CollectionInfo, self._store.drop_index(name).wait())

    def describe(self) -> CollectionInfo:
        """The collection as it stands."""
        return cast(CollectionInfo, self._store.describe().wait())


class Products(Collection):
    """Products: a title, a price from 0 up, a thumbnail URL where there is one, and fields of your own."""

    __slots__ = ()

    @staticmethod
    def mock(count: int, seed: int) -> builtins.list[Document]:
        """Products that are made up, with ids from 1: the same for the same seed, and not stored."""
        return cast("builtins.list[Document]", _kappa_core.mock_products(count, seed))


class Users(Collection):
    """Users: a name, an e-mail address and a group where there are any, and fields of your own."""

    __slots__ = ()


def _walk(pages: _kappa_core.Pages) -> Iterator[Document]:
    while (documents := pages.next().wait()) is not None:
        yield from documents
