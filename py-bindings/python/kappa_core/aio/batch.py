"""Writes that happen together or not at all, for asyncio."""

from __future__ import annotations

from typing import Any, cast

from ..batch import Gathering
from ._loop import answer


class Batch(Gathering):
    """Nothing happens before :meth:`commit`."""

    __slots__ = ()

    async def commit(self, *, idempotency_key: str | None = None) -> list[Any]:
        """See :meth:`kappa_core.Batch.commit`."""
        return cast(list[Any], await answer(self._batch.commit(idempotency_key)))
