"""Products, users and collections, for asyncio."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

from .. import _kappa_core
from .._bounds import MISSING
from .._described import Described
from ..store import Products as BlockingProducts
from ..types import CollectionInfo, Document, DocumentLike, Duration, Entry, Index, Page
from ._loop import answer


class Collection(Described):
    """See :class:`kappa_core.Collection`."""

    __slots__ = ()

    async def create(
        self, document: DocumentLike, *, ttl: Duration | None = None, idempotency_key: str | None = None
    ) -> Document:
        """See :meth:`kappa_core.Collection.create`."""
        return cast(Document, await answer(self._store.create(document, ttl, idempotency_key)))

    async def get(self, id: str) -> Document | None:
        """See :meth:`kappa_core.Collection.get`."""
        return cast("Document | None", await answer(self._store.get(id)))

    async def entry(self, id: str) -> Entry | None:
        """See :meth:`kappa_core.Collection.entry`."""
        return cast("Entry | None", await answer(self._store.entry(id)))

    async def get_many(self, ids: Iterable[str]) -> builtins.list[Document | None]:
        """See :meth:`kappa_core.Collection.get_many`."""
        return cast("builtins.list[Document | None]", await answer(self._store.get_many(ids)))

    async def replace(
        self,
        id: str,
        document: DocumentLike,
        *,
        if_version: str | None = None,
        ttl: Duration | None = None,
        idempotency_key: str | None = None,
    ) -> Document:
        """See :meth:`kappa_core.Collection.replace`."""
        call = self._store.replace(id, document, if_version, ttl, idempotency_key)
        return cast(Document, await answer(call))

    async def update(
        self,
        id: str,
        patch: DocumentLike,
        *,
        if_version: str | None = None,
        ttl: Duration | None = None,
        idempotency_key: str | None = None,
    ) -> Document:
        """See :meth:`kappa_core.Collection.update`."""
        call = self._store.update(id, patch, if_version, ttl, idempotency_key)
        return cast(Document, await answer(call))

    async def delete(
        self, id: str, *, if_version: str | None = None, idempotency_key: str | None = None
    ) -> bool:
        """See :meth:`kappa_core.Collection.delete`."""
        return cast(bool, await answer(self._store.delete(id, if_version, idempotency_key)))

    async def count(self) -> int:
        """See :meth:`kappa_core.Collection.count`."""
        return cast(int, await answer(self._store.count()))

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
    ) -> AsyncIterator[Document]:
        """See :meth:`kappa_core.Collection.list`; iterate with ``async for``."""
        return _walk(self._pages(index, (equal, from_, to), reverse, limit, page_size, after))

    async def page(
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
        """See :meth:`kappa_core.Collection.page`."""
        pages = self._pages(index, (equal, from_, to), reverse, limit, page_size, after)
        return cast(Page, await answer(pages.page()))

    async def declare(
        self,
        *,
        indexes: Iterable[Index] | None = None,
        ttl: Duration | None = None,
        partition_field: str | None = None,
    ) -> CollectionInfo:
        """See :meth:`kappa_core.Collection.declare`."""
        return cast(CollectionInfo, await answer(self._store.declare(indexes, ttl, partition_field)))

    async def drop_index(self, name: str) -> CollectionInfo:
        """See :meth:`kappa_core.Collection.drop_index`."""
        return cast(CollectionInfo, await answer(self._store.drop_index(name)))

    async def describe(self) -> CollectionInfo:
        """See :meth:`kappa_core.Collection.describe`."""
        return cast(CollectionInfo, await answer(self._store.describe()))


class Products(Collection):
    """See :class:`kappa_core.Products`."""

    __slots__ = ()

    mock = staticmethod(BlockingProducts.mock)


class Users(Collection):
    """See :class:`kappa_core.Users`."""

    __slots__ = ()


async def _walk(pages: _kappa_core.Pages) -> AsyncIterator[Document]:
    while (documents := await answer(pages.next())) is not None:
        for document in documents:
            yield document
