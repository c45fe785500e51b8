"""The options of a database as the extension takes them: by the names that `open` and `in_memory` give them."""

from __future__ import annotations

from typing import Any


def named(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a function by their names, without the place that they belong to."""
    return {name: value for name, value in given.items() if name != "path"}
