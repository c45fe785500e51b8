"""A bar for somebody who waits at a terminal, where the package ``tqdm`` is installed."""

from __future__ import annotations

import importlib
from typing import Any

from .types import Task

STEP = 0.2
"""How often a bar is drawn anew, in seconds."""


class Bar:
    """How far a task is. Nothing at all where standard error is no terminal, or there is no ``tqdm``."""

    __slots__ = ("_bar",)

    def __init__(self) -> None:
        self._bar: Any = None
        try:
            tqdm: Any = importlib.import_module("tqdm").tqdm
        except ImportError:
            return
        # None asks tqdm to look whether somebody sees it.
        self._bar = tqdm(total=1.0, disable=None, leave=False, bar_format="{l_bar}{bar}| {elapsed}")

    def show(self, task: Task) -> None:
        """Draws the task as it stands."""
        if self._bar is None or self._bar.disable:
            return
        self._bar.set_description(f"{task['queue']} {task['id']} {task['state']}", refresh=False)
        self._bar.n = task["progress"] or 0.0
        self._bar.refresh()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
