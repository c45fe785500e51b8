"""What can go wrong: one class for each kind, each with the reaction it asks for."""

from __future__ import annotations

__all__ = [
    "AlreadyExistsError",
    "AmbiguousError",
    "CancelledError",
    "ClosedError",
    "ConflictError",
    "DamagedError",
    "ExpiredError",
    "IndexBuildingError",
    "InternalError",
    "InvalidInputError",
    "KappaError",
    "LockedError",
    "NotFoundError",
    "OverloadedError",
    "StorageFullError",
    "TooLargeError",
    "UnavailableError",
    "UnsupportedError",
    "VersionMismatchError",
]


class KappaError(Exception):
    """Any failure of Kappa."""

    code: str = "internal"
    """The stable text of the kind; the same over HTTP and in Node."""
    operation: str | None
    """The call that failed, where it is known."""
    context: dict[str, str]
    """The values that matter, by name."""

    def __init__(
        self, message: str = "", *, operation: str | None = None, context: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.context = context if context is not None else {}

    # KeyError shows its argument quoted and OSError looks for a number in it; the message is for people.
    def __str__(self) -> str:
        return self.message

    # Exceptions travel between processes, as in concurrent.futures, with everything they carry.
    def __reduce__(self) -> tuple[object, ...]:
        return (_again, (type(self), self.message, self.operation, self.context))


def _again(
    kind: type[KappaError], message: str, operation: str | None, context: dict[str, str]
) -> KappaError:
    return kind(message, operation=operation, context=context)


class InvalidInputError(KappaError, ValueError):
    """The input breaks a documented rule. Fix the input."""

    code = "invalid_input"


class NotFoundError(KappaError, KeyError):
    """What the call names does not exist. Fix the input."""

    code = "not_found"


class AlreadyExistsError(KappaError, ValueError):
    """Something with this id or unique value exists already. Fix the input."""

    code = "already_exists"


class ConflictError(KappaError, ValueError):
    """The same idempotency key came with other content. Use a new key."""

    code = "conflict"


class VersionMismatchError(KappaError):
    """The document was written since the version the caller named. Read it again, then retry."""

    code = "version_mismatch"


class TooLargeError(KappaError, ValueError):
    """A document, operation or request is over its documented limit. Send less."""

    code = "too_large"


class OverloadedError(KappaError, TimeoutError):
    """A bounded queue stayed full up to the deadline; nothing was written. Retry later."""

    code = "overloaded"


class StorageFullError(KappaError, OSError):
    """The disk is nearly full; nothing was written. Free space, then retry. Reads and deletes go on."""

    code = "storage_full"


class UnavailableError(KappaError, OSError):
    """The data is not being served at the moment; nothing was written. Retry later."""

    code = "unavailable"


class AmbiguousError(KappaError):
    """A write may or may not have happened. Read before repeating, or repeat with an idempotency key."""

    code = "ambiguous"


class IndexBuildingError(KappaError):
    """The index is being built on existing data. Retry later."""

    code = "index_building"


class ExpiredError(KappaError, LookupError):
    """The cursor points before what is still kept. Start again from a fresh list."""

    code = "expired"


class LockedError(KappaError, OSError):
    """Another process owns the data directory. Close it there, or talk to it."""

    code = "locked"


class DamagedError(KappaError, OSError):
    """Stored data is damaged; the message names file and offset. Restore it, then reopen."""

    code = "damaged"


class UnsupportedError(KappaError, NotImplementedError):
    """The engine or this build cannot do what was asked. Change the options."""

    code = "unsupported"


class CancelledError(KappaError):
    """The call was cancelled by its caller."""

    code = "cancelled"


class ClosedError(KappaError):
    """The handle is closed, or is of a database in the memory of the parent process. Open it again."""

    code = "closed"


class InternalError(KappaError, RuntimeError):
    """A defect of Kappa. Report it."""

    code = "internal"


_KINDS: dict[str, type[KappaError]] = {kind.code: kind for kind in KappaError.__subclasses__()}


def make(code: str, message: str, operation: str | None, context: dict[str, str]) -> KappaError:
    """The exception of one kind. A kind that this file does not know yet is still a KappaError with its code."""
    error = _KINDS.get(code, KappaError)(message, operation=operation, context=context)
    error.code = code
    return error
