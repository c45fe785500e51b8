"""Bad input must be told apart by its code, and nothing of it may be stored."""

from __future__ import annotations

import datetime
import enum
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from contract import call, expand, scenarios

import kappa_core
from kappa_core import InvalidInputError, KappaError

CASES = scenarios("bad_input.json")


async def a_small_shop(open_database: Any) -> Any:
    db = await open_database()
    await call(db, "orders.declare", {"indexes": ["user", {"field": "number", "unique": True}]})
    await call(db, "products.create", {"document": {"id": "p1", "title": "Mate", "price": 12.5}})
    user = {"id": "u1", "name": "Ana", "email": "ana@example.com", "group": 1}
    await call(db, "users.create", {"document": user})
    await call(db, "orders.create", {"document": {"id": "o1", "user": "ana", "number": 1}})
    await call(db, "tasks.enqueue", {"queue": "mail", "delay_ms": 3_600_000, "unique": "k"})
    return db


async def everything(db: Any) -> Any:
    stores = [info["name"] for info in await call(db, "db.collections", {})]
    queue = [await call(db, f"tasks.{method}", {}) for method in ("queues", "list", "schedules")]
    return queue, [(await call(db, f"{name}.describe", {}), await call(db, f"{name}.list", {})) for name in stores]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_bad_input_in_any_language(case: dict[str, Any], open_database: Any, run: Any) -> None:
    async def steps() -> None:
        db = await a_small_shop(open_database)
        before = await everything(db)
        with pytest.raises(KappaError) as failure:
            await call(db, case["call"], expand(case["with"], {}))
        assert failure.value.code == case["fails"], str(failure.value)
        assert str(failure.value), "an error says something"
        assert await everything(db) == before

    run(steps())


class Color(enum.Enum):
    RED = "red"


def in_itself() -> dict[str, Any]:
    document: dict[str, Any] = {"id": "x"}
    document["self"] = document
    return document


def wide_and_in_itself() -> dict[str, Any]:
    inner: list[Any] = []
    inner.extend([inner] * 50)
    return {"all": inner}


class Liar:
    """Says it is a model and then is none."""

    def model_dump(self) -> Any:
        return 7


class Failing:
    def model_dump(self) -> Any:
        raise RuntimeError("not today")


DOCUMENTS: dict[str, Any] = {
    "none": None,
    "a number": 1,
    "a text": "{}",
    "bytes": b"{}",
    "a list": [],
    "a list of pairs": [("a", 1)],
    "a set": {"a"},
    "a class": dict,
    "an object": object(),
    "NaN": {"a": float("nan")},
    "infinity": {"a": float("inf")},
    "minus infinity within": {"a": [{"b": float("-inf")}]},
    "a complex number": {"a": 1j},
    "a fraction": {"a": Fraction(1, 3)},
    "bytes within": {"a": b"x"},
    "a bytearray within": {"a": bytearray(b"x")},
    "a memoryview within": {"a": memoryview(b"x")},
    "a set within": {"a": {1}},
    "a generator within": {"a": (n for n in [1])},
    "a range within": {"a": range(3)},
    "a function within": {"a": print},
    "a class within": {"a": Color},
    "an enumeration's member": {"a": Color.RED},
    "an object within": {"a": object()},
    "a number as name": {1: "a"},
    "none as name": {None: "a"},
    "a tuple as name": {("a",): 1},
    "bytes as name": {b"a": 1},
    "a number as name within": {"a": [{"b": {2: 3}}]},
    "half of a surrogate pair": {"a": "\ud800"},
    "half of a surrogate pair as name": {"\udfff": 1},
    "a datetime without zone": {"a": datetime.datetime(2026, 1, 1)},
    "a date": {"a": datetime.date(2026, 1, 1)},
    "a time": {"a": datetime.time(1)},
    "a timedelta": {"a": datetime.timedelta(1)},
    "a decimal": {"a": __import__("decimal").Decimal("0.1")},
    "a document in itself": in_itself(),
    "a list in itself many times": wide_and_in_itself(),
    "a model that gives a number": Liar(),
    "a model that fails": Failing(),
    "a model within that fails": {"a": Failing()},
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_no_document(name: str, db: kappa_core.Kappa) -> None:
    things = db.collection("things")
    things.create({"id": "t"})
    for write in (
        lambda: things.create(DOCUMENTS[name]),
        lambda: things.replace("t", DOCUMENTS[name]),
        lambda: things.update("t", DOCUMENTS[name]),
        lambda: db.batch().create("things", DOCUMENTS[name]),
        lambda: db.batch().replace("things", "t", DOCUMENTS[name]),
        lambda: db.batch().update("things", "t", DOCUMENTS[name]),
    ):
        with pytest.raises(InvalidInputError) as failure:
            write()
        assert isinstance(failure.value, ValueError)
    assert list(things.list()) == [{"id": "t"}]


def test_the_place_of_a_bad_value_is_named(db: kappa_core.Kappa) -> None:
    with pytest.raises(InvalidInputError) as failure:
        db.products.create({"title": "x", "price": 1, "sizes": [{"s": 1}, {"m": object()}]})
    assert failure.value.context == {"got": "object", "at": "sizes.1.m"}


def test_a_document_in_itself_with_many_fields_ends_soon(db: kappa_core.Kappa) -> None:
    """Fifty times fifty times fifty ... would be written until the memory is full."""
    with pytest.raises(KappaError) as failure:
        db.collection("things").create(wide_and_in_itself())
    assert failure.value.code == "invalid_input"


def test_a_list_without_end_is_refused_before_it_fills_the_memory(db: kappa_core.Kappa) -> None:
    with pytest.raises(kappa_core.TooLargeError):
        db.collection("things").create({"a": [0] * 5_000_000})


def test_a_number_of_too_many_digits_is_refused_and_not_cut(db: kappa_core.Kappa) -> None:
    things = db.collection("things")
    most = sys.get_int_max_str_digits()
    largest = 10**most - 1
    assert things.create({"n": largest})["n"] == largest
    with pytest.raises(InvalidInputError, match="too many digits"):
        things.create({"n": 10**most})
    assert things.count() == 1


ARGUMENTS: dict[str, Callable[[kappa_core.Kappa], Any]] = {
    "a number as id": lambda db: db.products.get(1),  # type: ignore[arg-type]
    "none as id": lambda db: db.products.get(None),  # type: ignore[arg-type]
    "bytes as id": lambda db: db.products.get(b"p"),  # type: ignore[arg-type]
    "half of a surrogate pair as id": lambda db: db.products.get("\ud800"),
    "a number as id of an entry": lambda db: db.products.entry(1),  # type: ignore[arg-type]
    "a number as id of a delete": lambda db: db.products.delete(1),  # type: ignore[arg-type]
    "a number as id of an update": lambda db: db.products.update(1, {}),  # type: ignore[arg-type]
    "a text as ids": lambda db: db.products.get_many("abc"),
    "a number as ids": lambda db: db.products.get_many(3),  # type: ignore[arg-type]
    "numbers as ids": lambda db: db.products.get_many([1, 2]),  # type: ignore[list-item]
    "a dict as ids": lambda db: db.products.get_many({"a": 1}),
    "a number as version": lambda db: db.products.delete("a", if_version=1),  # type: ignore[arg-type]
    "true as version": lambda db: db.products.delete("a", if_version=True),  # type: ignore[arg-type]
    "a text as ttl": lambda db: db.users.create({}, ttl="soon"),
    "true as ttl": lambda db: db.users.create({}, ttl=True),
    "a negative ttl": lambda db: db.users.create({}, ttl=-1),
    "a negative timedelta as ttl": lambda db: db.users.create({}, ttl=datetime.timedelta(seconds=-1)),
    "NaN as ttl": lambda db: db.users.create({}, ttl=float("nan")),
    "infinity as ttl": lambda db: db.users.create({}, ttl=float("inf")),
    "a number as key": lambda db: db.users.create({}, idempotency_key=1),  # type: ignore[arg-type]
    "a negative limit": lambda db: list(db.users.list(limit=-1)),
    "a text as limit": lambda db: list(db.users.list(limit="1")),  # type: ignore[arg-type]
    "a fraction as limit": lambda db: list(db.users.list(limit=1.0)),  # type: ignore[arg-type]
    "true as limit": lambda db: list(db.users.list(limit=True)),
    "an endless limit": lambda db: list(db.users.list(limit=2**70)),
    "a negative page size": lambda db: db.users.page(page_size=-1),
    "a number as reverse": lambda db: db.users.page(reverse=1),  # type: ignore[arg-type]
    "a number as cursor": lambda db: db.users.page(after=1),  # type: ignore[arg-type]
    "a number as index": lambda db: db.users.page(1),  # type: ignore[arg-type]
    "NaN as bound": lambda db: db.users.page("a", equal=float("nan")),
    "an object as bound": lambda db: db.users.page("a", from_=object()),
    "a number as collection": lambda db: db.collection(1),  # type: ignore[arg-type]
    "a number as feed cursor": lambda db: db.changes(1),  # type: ignore[arg-type]
    "a start that is none": lambda db: db.changes(start="yesterday"),  # type: ignore[arg-type]
    "a text as indexes": lambda db: db.users.declare(indexes="name"),
    "a number as index definition": lambda db: db.users.declare(indexes=[1]),  # type: ignore[list-item]
    "an index with an unknown option": lambda db: db.users.declare(
        indexes=[{"field": "a", "sorted": True}]  # type: ignore[typeddict-unknown-key]
    ),
    "an index without field": lambda db: db.users.declare(indexes=[{"name": "a"}]),  # type: ignore[typeddict-item]
    "a text as unique": lambda db: db.users.declare(
        indexes=[{"field": "a", "unique": "yes"}]  # type: ignore[typeddict-item]
    ),
    "a negative count of made-up products": lambda db: db.products.mock(-1, 1),
    "a fraction as seed": lambda db: db.products.mock(1, 0.5),  # type: ignore[arg-type]
    "a negative count of draws": lambda db: kappa_core.histogram(-1),
    "a fraction as count of draws": lambda db: kappa_core.histogram(1e8),  # type: ignore[arg-type]
    "too many draws": lambda db: kappa_core.histogram(2**64),
    "a list as range": lambda db: kappa_core.histogram(1, range=[1, 2]),  # type: ignore[arg-type]
    "three ends of a range": lambda db: kappa_core.histogram(1, range=(1, 2, 3)),  # type: ignore[arg-type]
    "texts as range": lambda db: kappa_core.histogram(1, range=("a", "z")),  # type: ignore[arg-type]
    "an empty range": lambda db: kappa_core.histogram(1, range=(2, 1)),
    "a range that is too far out": lambda db: kappa_core.histogram(1, range=(2**63, 2**63 + 1)),
    "a negative seed": lambda db: kappa_core.histogram(1, seed=-1),
    "a method that is none": lambda db: kappa_core.histogram(1, method="guess"),  # type: ignore[arg-type]
    "no threads": lambda db: kappa_core.histogram(1, threads=0),
    "a number as path": lambda db: kappa_core.open(5),  # type: ignore[arg-type]
    "a durability that is none": lambda db: kappa_core.open("x", durability="maybe"),  # type: ignore[arg-type]
    "a mode that is none": lambda db: kappa_core.open("x", mode="boss"),  # type: ignore[arg-type]
    "a network disk that is neither yes nor no": lambda db: kappa_core.open("x", network_disk="yes"),  # type: ignore[arg-type]
    "a view that is none": lambda db: kappa_core.open("x", view="paper"),  # type: ignore[arg-type]
    "a number as decimals": lambda db: kappa_core.open("x", decimals=1),  # type: ignore[arg-type]
    "a negative deadline": lambda db: kappa_core.in_memory(deadline=-1),
    "a negative size": lambda db: kappa_core.in_memory(intake_bytes=-1),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_another_kind(name: str, db: kappa_core.Kappa) -> None:
    with pytest.raises(InvalidInputError) as failure:
        ARGUMENTS[name](db)
    assert str(failure.value)
    assert db.collections() == []


def test_a_batch_is_committed_once(db: kappa_core.Kappa) -> None:
    batch = db.batch().create("users", {})
    batch.commit()
    for again in (batch.commit, lambda: batch.create("users", {})):
        with pytest.raises(InvalidInputError, match="was committed"):
            again()
    assert db.users.count() == 1
