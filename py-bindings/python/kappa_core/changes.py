"""The change feed, for threads that may wait."""

from __future__ import annotations

from collections import deque
from types import TracebackType

from . import _kappa_core
from .types import Change


class Changes:
    """Changes in the order they were committed, at least once each.

    Iterating waits for the next one. Ends when it is closed, also from another thread; raises ``ClosedError`` when
    the database is closed and ``ExpiredError`` when its place is no longer kept.
    """

    __slots__ = ("_feed", "_ready", "_seen")

    def __init__(self, feed: _kappa_core.Feed) -> None:
        self._feed = feed
        self._ready: deque[Change] = deque()
        self._seen = feed.cursor()

    @property
    def cursor(self) -> str:
        """The cursor behind the newest change that was given out; go on with ``db.changes(after=cursor)``."""
        return self._seen

    def __iter__(self) -> Changes:
        return self

    def __next__(self) -> Change:
        # What is ready in a forked child is its parent's, who gives it out: here the feed answers with its error.
        while not self._ready or self._feed.is_foreign():
            # Who is interrupted here leaves the changes where they are: they are handed over by `take` alone.
            if not self._feed.next().wait():
                raise StopIteration
            self._ready.extend(self._feed.take())
        change = self._ready.popleft()
        self._seen = change["cursor"]
        return change

    def close(self) -> None:
        """Ends the feed, also for a thread that waits for the next change."""
        self._feed.close()
        self._ready.clear()

    def __enter__(self) -> Changes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
