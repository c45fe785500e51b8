"""Bounds of lists: None is a value to look for, so a bound that is not given needs another mark."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final


class Missing(Enum):
    """The mark of a bound that is not given."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING


def bound(value: Any) -> tuple[Any] | None:
    """The bound as the extension takes it."""
    return None if value is MISSING else (value,)
