"""The change feed, for asyncio."""

from __future__ import annotations

from collections import deque
from types import TracebackType

from .. import _kappa_core
from ..types import Change
from ._loop import answer


class Changes:
    """See :class:`kappa_core.Changes`; iterate with ``async for``."""

    __slots__ = ("_feed", "_ready", "_seen")

    def __init__(self, feed: _kappa_core.Feed) -> None:
        self._feed = feed
        self._ready: deque[Change] = deque()
        self._seen = feed.cursor()

    @property
    def cursor(self) -> str:
        """The cursor behind the newest change that was given out."""
        return self._seen

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> Change:
        # What is ready in a forked child is its parent's, who gives it out: here the feed answers with its error.
        while not self._ready or self._feed.is_foreign():
            # Who is interrupted here leaves the changes where they are: they are handed over by `take` alone.
            if not await answer(self._feed.next()):
                raise StopAsyncIteration
            self._ready.extend(self._feed.take())
        change = self._ready.popleft()
        self._seen = change["cursor"]
        return change

    def close(self) -> None:
        """Ends the feed, also for a task that waits for the next change."""
        self._feed.close()
        self._ready.clear()

    async def aclose(self) -> None:
        """The same as :meth:`close`, under the name that ``contextlib.aclosing`` looks for."""
        self.close()

    async def __aenter__(self) -> Changes:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
