"""What the collections for threads and for asyncio share: how calls are described, not how they are awaited."""

from __future__ import annotations

from typing import Any

from . import _kappa_core
from ._bounds import bound


class Described:
    """One collection, described by its native part."""

    __slots__ = ("_store",)

    def __init__(self, store: _kappa_core.Store) -> None:
        self._store = store

    @property
    def name(self) -> str:
        """Its name."""
        return self._store.name()

    def _pages(
        self,
        index: str | None,
        bounds: tuple[Any, Any, Any],
        reverse: bool,
        limit: int | None,
        page_size: int | None,
        after: str | None,
    ) -> _kappa_core.Pages:
        """A list; the bounds are `equal`, `from_` and `to`."""
        equal, from_, to = map(bound, bounds)
        return self._store.list(index, equal, from_, to, reverse, limit, page_size, after)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

