"""The task queue of the scenarios; ``begin`` and ``finish`` are a worker with its handler."""

from __future__ import annotations

import asyncio
import inspect
import queue
import weakref
from datetime import timedelta
from typing import Any

from kappa_core import Discard, aio

PATIENCE = 60.0
"""Longer than any handler waits; only a lost task makes a test wait for it."""

begun: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
"""What handlers of a database are in the middle of: by queue the worker, what ends its handler, and the task."""


def duration(ms: int) -> timedelta | float:
    """Both ways to say how long."""
    return ms / 1000 if ms % 2 else timedelta(milliseconds=ms)


def backoff(rule: dict[str, Any]) -> Any:
    """A backoff as Python has it."""
    ((kind, said),) = rule.items()
    if kind == "fixed":
        return duration(said["ms"])
    if kind == "custom":
        return [duration(ms) for ms in said["ms"]]
    return {name.removesuffix("_ms"): duration(ms) for name, ms in said.items()}


def options(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments by the names and in the units of Python."""
    named: dict[str, Any] = {}
    for name, value in arguments.items():
        if name == "backoff":
            named[name] = backoff(value)
        elif name == "rate":
            named[name] = (value["count"], duration(value["per_ms"]))
        elif name == "task":
            named[name] = options(value)
        elif name == "tasks":
            named[name] = [options(task) for task in value]
        elif name.endswith("_ms"):
            named[name.removesuffix("_ms")] = duration(value)
        else:
            named[name] = value
    return named


async def settled(answer: Any) -> Any:
    if inspect.isawaitable(answer):
        return await answer
    if hasattr(answer, "__anext__"):
        return [item async for item in answer]
    return list(answer) if hasattr(answer, "__next__") else answer


async def call(db: Any, method: str, arguments: dict[str, Any]) -> Any:
    if method == "begin":
        return await begin(db, **arguments)
    if method == "finish":
        return await finish(db, **arguments)
    if method == "configure":
        return await settled(db.tasks.configure(arguments["queue"], **options(arguments["settings"])))
    if method == "wait":
        arguments = {**arguments, "timeout": PATIENCE}
        return await settled(db.tasks.wait(**arguments))
    return await settled(getattr(db.tasks, method)(**options(arguments)))


async def begin(db: Any, queue: str) -> Any:
    """Starts a worker whose handler waits for :func:`finish`."""
    started = on_loop if isinstance(db, aio.Kappa) else on_threads
    worker, end, beginning = started(db, queue)
    id = await asyncio.wait_for(beginning(), PATIENCE)
    begun.setdefault(db, {})[queue] = (worker, end, id)
    return await settled(db.tasks.get(id))


async def finish(db: Any, queue: str, **how: Any) -> Any:
    worker, end, id = begun[db].pop(queue)
    end(how)
    assert await settled(worker.stop()) == 0, "the handler does not end"
    return await settled(db.tasks.get(id))


def on_threads(db: Any, name: str) -> Any:
    began: queue.SimpleQueue[int] = queue.SimpleQueue()
    ending: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def handler(task: Any) -> Any:
        began.put(task.id)
        how = ending.get(timeout=PATIENCE)
        if "cancelled" in how:
            assert task.wait_cancelled(PATIENCE)
            task.raise_if_cancelled()
        return outcome(how)

    return db.worker(name, handler), ending.put, lambda: asyncio.to_thread(began.get, timeout=PATIENCE)


def on_loop(db: Any, name: str) -> Any:
    began: asyncio.Queue[int] = asyncio.Queue()
    ending: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def handler(task: Any) -> Any:
        began.put_nowait(task.id)
        how = await asyncio.wait_for(ending.get(), PATIENCE)
        if "cancelled" in how:
            await asyncio.sleep(PATIENCE)
        return outcome(how)

    return db.worker(name, handler), ending.put_nowait, began.get


def outcome(how: dict[str, Any]) -> Any:
    if "discard" in how:
        raise Discard(how["discard"])
    if "error" in how:
        raise RuntimeError(how["error"])
    return how["result"]
