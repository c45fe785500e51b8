"""Runs the scenarios of core/tests/contract, which every language runs."""

from __future__ import annotations

import inspect
import json
import re
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import contract_tasks

import kappa_core
from kappa_core import aio

FOLDER = Path(__file__).parents[2] / "core" / "tests" / "contract"

RENAMED = {"from": "from_"}
MILLISECONDS = {"ttl_ms": "ttl"}
PATIENCE = 60.0
"""Longer than any answer takes; only a lost change makes a test wait for it."""


def scenarios(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return found


def expand(value: Any, known: dict[str, Any]) -> Any:
    """The value with its references and macros resolved."""
    if isinstance(value, str) and (reference := re.fullmatch(r"\$(\w+)((?:\.\w+)*)", value)):
        found = known[reference[1]]
        for step in reference[2].split(".")[1:]:
            found = found[int(step)] if isinstance(found, list) else found[step]
        return found
    if isinstance(value, list):
        return [expand(item, known) for item in value]
    if isinstance(value, dict):
        if "$repeat" in value:
            return value["$repeat"] * value["times"]
        if "$list" in value:
            return [value["$list"]] * value["times"]
        if "$nest" in value:
            nested: list[Any] = []
            for _ in range(value["$nest"] - 1):
                nested = [nested]
            return nested
        return {name: expand(item, known) for name, item in value.items()}
    return value


def named(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments by the names and in the units of Python."""
    named = {}
    for name, value in arguments.items():
        if name in MILLISECONDS:
            named[MILLISECONDS[name]] = value / 1000
        else:
            named[RENAMED.get(name, name)] = value
    return named


async def settle(answer: Any) -> Any:
    if inspect.isawaitable(answer):
        return await answer
    if hasattr(answer, "__anext__"):
        return [item async for item in answer]
    if hasattr(answer, "__next__") and not hasattr(answer, "cursor"):
        return list(answer)
    return answer


async def store_of(db: Any, name: str) -> Any:
    if name in ("products", "users"):
        return getattr(db, name)
    return await settle(db.collection(name))


async def take(changes: Any, count: int) -> list[Any]:
    """So many changes; fewer where they do not come."""
    late = threading.Timer(PATIENCE, changes.close)
    late.start()
    try:
        found: list[Any] = []
        while len(found) < count:
            found.append(await anext(changes) if hasattr(changes, "__anext__") else next(changes))
    except (StopIteration, StopAsyncIteration):
        pass
    finally:
        late.cancel()
        changes.close()
    return found


async def histogram(db: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    module = aio if isinstance(db, aio.Kappa) else kappa_core
    drawn = await settle(module.histogram(**{**arguments, "range": tuple(arguments["range"])}))
    found = {name: getattr(drawn, name) for name in ("count", "seed", "method", "counts")}
    return {**found, "range": list(drawn.range)}


async def call(db: Any, name: str, arguments: dict[str, Any]) -> Any:
    store, method = name.split(".")
    if name == "random.histogram":
        return await histogram(db, arguments)
    if name == "db.changes" and "take" in arguments:
        rest = {name: value for name, value in arguments.items() if name != "take"}
        return await take(db.changes(**rest), arguments["take"])
    if store == "tasks":
        return await contract_tasks.call(db, method, arguments)
    if store != "db":
        return await settle(getattr(await store_of(db, store), method)(**named(arguments)))
    if method != "batch":
        return await settle(getattr(db, method)(**arguments))
    batch = db.batch()
    for operation in arguments["operations"]:
        rest = {name: value for name, value in operation.items() if name != "call"}
        if operation["call"] == "enqueue":
            batch.enqueue(**contract_tasks.options(rest))
            continue
        getattr(batch, operation["call"])(**named(rest))
    return await settle(batch.commit(idempotency_key=arguments.get("idempotency_key")))


def same(expected: Any, found: Any) -> bool:
    """Whether two values are the same JSON: true is not 1, and 1 is 1.0."""
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, int | float | Decimal) and isinstance(found, int | float | Decimal):
        return expected == found
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(same(expected[name], found[name]) for name in expected)
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(same, expected, found))
    return type(expected) is type(found) and bool(expected == found)


def part_of(expected: Any, found: Any) -> bool:
    """Whether everything that is expected was found."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return all(name in found and part_of(value, found[name]) for name, value in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(part_of, expected, found))
    return same(expected, found)
