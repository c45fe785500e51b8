"""Open databases are closed when the interpreter ends, so that the next open has nothing to recover."""

from __future__ import annotations

import atexit
from typing import Protocol
from weakref import WeakSet

from ._kappa_core import Database
from .errors import KappaError


class _Threads(Protocol):
    def end(self) -> None: ...


_open: WeakSet[Database] = WeakSet()
_threads: WeakSet[_Threads] = WeakSet()


def remember(database: Database) -> Database:
    """Closes `database` at exit if nobody has by then."""
    _open.add(database)
    return database


def remember_threads(threads: _Threads) -> None:
    """Ends the threads of a worker at exit: one that came back from Kappa after the interpreter has gone would be killed."""
    _threads.add(threads)


@atexit.register
def _close_all() -> None:
    for threads in list(_threads):
        try:
            threads.end()
        except KappaError:
            # Its leases end by themselves.
            pass
    for database in list(_open):
        # A forked child has no right to close what its parent opened.
        if database.is_foreign():
            continue
        try:
            database.close().wait()
        except KappaError:
            # What was not flushed is recovered by the next open; an interpreter that ends has no caller to tell.
            pass
