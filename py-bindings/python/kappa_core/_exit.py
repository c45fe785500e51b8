"""Open databases are closed when the interpreter ends, so that the next open has nothing to recover."""

from __future__ import annotations

import atexit
from weakref import WeakSet

from ._kappa_core import Database
from .errors import KappaError

_open: WeakSet[Database] = WeakSet()


def remember(database: Database) -> Database:
    """Closes `database` at exit if nobody has by then."""
    _open.add(database)
    return database


@atexit.register
def _close_all() -> None:
    for database in list(_open):
        # A forked child has no right to close what its parent opened.
        if database.is_foreign():
            continue
        try:
            database.close().wait()
        except KappaError:
            # What was not flushed is recovered by the next open; an interpreter that ends has no caller to tell.
            pass
