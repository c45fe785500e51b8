"""What goes in comes out: every digit, every character, whatever kind of object held it."""

from __future__ import annotations

import datetime
import enum
import json
import random
import struct
import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

import kappa_core


def through(db: kappa_core.Kappa, value: Any) -> Any:
    things = db.collection("things")
    made = things.create({"value": value})
    found = things.get(made["id"])
    assert found == made
    return made["value"]


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        2**31,
        2**53 - 1,
        2**53 + 1,
        -(2**53) - 1,
        2**63 - 1,
        2**63,
        -(2**63),
        -(2**63) - 1,
        2**64,
        10**400 + 7,
        -(10**4000),
        0.1,
        -0.0,
        1e16,
        1e-7,
        5e-324,
        sys.float_info.max,
        sys.float_info.min,
        1.0,
        123456789.123456789,
        True,
        False,
        None,
        "",
        "\x00",
        "\x1f\x7f\u2028\ufeff",
        "\ud7ff\ue000\uffff\U00010000\U0010ffff",
        'quote " slash \\ / newline \n tab \t',
        "ñandú 日本 😀 e\u0301",
        [],
        {},
        [[], {}, [None, [True]]],
        {"": {"": ""}},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_value_comes_back_as_it_went_in(value: Any, db: kappa_core.Kappa) -> None:
    found = through(db, value)
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value)


def test_any_float_comes_back_to_the_last_bit(db: kappa_core.Kappa) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    floats = [struct.unpack("<d", struct.pack("<Q", chance.getrandbits(64)))[0] for _ in range(2000)]
    floats = [one for one in floats if one - one == 0]
    found = through(db, floats)
    assert list(map(repr, found)) == list(map(repr, floats))


def test_any_document_comes_back_as_json_would_have_it(db: kappa_core.Kappa) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)

    def text() -> str:
        return "".join(chr(chance.choice([0, 34, 92, 10, 65, 228, 8232, 0x1F600])) for _ in range(chance.randrange(6)))

    def value(depth: int) -> Any:
        kind = chance.randrange(8 if depth < 6 else 6)
        if kind == 6:
            return [value(depth + 1) for _ in range(chance.randrange(4))]
        if kind == 7:
            return {text(): value(depth + 1) for _ in range(chance.randrange(4))}
        return [None, True, False, chance.getrandbits(80), chance.random() * 10 ** chance.randrange(-20, 20), text()][kind]

    for _ in range(300):
        one = value(0)
        assert through(db, one) == one == json.loads(json.dumps(one))


def test_documents_of_others_are_read_with_all_digits(db: kappa_core.Kappa) -> None:
    """What another language wrote: a whole number is an int, also where it is written with an exponent it is a float."""
    things = db.collection("things")
    things.create({"id": "a", "n": 12345678901234567890123, "f": 12.50})
    assert things.get("a") == {"id": "a", "n": 12345678901234567890123, "f": 12.5}


def test_decimals_keep_their_digits() -> None:
    with kappa_core.in_memory(decimals=True) as db:
        things = db.collection("things", indexes=["price"])
        digits = ["0.1", "12.50", "-0.0", "1E+400", "1E-400", "123456789012345678901234567890.123456789", "0E-10"]
        for text in digits:
            made = things.create({"price": Decimal(text)})
            found = things.get(made["id"])
            assert found is not None
            assert type(found["price"]) is Decimal
            assert str(found["price"]) == str(Decimal(text))
        assert things.create({"price": Decimal("5")})["price"] == 5
        assert type(things.create({"price": 0.1})["price"]) is Decimal
        assert type(things.create({"price": 7})["price"]) is int
        assert [one["price"] for one in things.list("price", equal=Decimal("12.5"))] == [Decimal("12.50")]
        for text in ("NaN", "sNaN", "Infinity", "-Infinity"):
            with pytest.raises(kappa_core.InvalidInputError):
                things.create({"price": Decimal(text)})


def test_a_moment_with_a_zone_is_text(db: kappa_core.Kappa) -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.timezone(datetime.timedelta(hours=-3)))
    assert through(db, moment) == "2026-01-02T03:04:05.000006-03:00"
    assert datetime.datetime.fromisoformat(through(db, moment)) == moment


class Size(str, enum.Enum):
    SMALL = "s"


class Level(enum.IntEnum):
    HIGH = 3


class Loud(str):
    def __str__(self) -> str:
        return self.upper()


class Wrong(int):
    def __repr__(self) -> str:
        return "none"

    __str__ = __repr__


def test_subclasses_are_what_they_are_made_of(db: kappa_core.Kappa) -> None:
    assert through(db, Size.SMALL) == "s"
    assert through(db, Level.HIGH) == 3
    assert through(db, Loud("quiet")) == "quiet"
    assert through(db, Wrong(2**70)) == 2**70
    assert through(db, OrderedDict(b=1, a=2)) == {"b": 1, "a": 2}
    assert list(through(db, OrderedDict(b=1, a=2))) == ["b", "a"], "the order of fields is kept"
    assert through(db, (1, (2, 3))) == [1, [2, 3]]


@dataclass
class Part:
    name: str
    sizes: list[int] = field(default_factory=list)


@dataclass
class Thing:
    id: str
    part: Part
    parts: tuple[Part, ...] = ()


def test_dataclasses(db: kappa_core.Kappa) -> None:
    things = db.collection("things")
    made = things.create(Thing("t", Part("a", [1]), (Part("b"), Part("c", [2, 3]))))
    parts = [{"name": "b", "sizes": []}, {"name": "c", "sizes": [2, 3]}]
    assert made == {"id": "t", "part": {"name": "a", "sizes": [1]}, "parts": parts}
    with pytest.raises(kappa_core.InvalidInputError):
        things.create(Thing)  # type: ignore[arg-type]


def test_pydantic_models(db: kappa_core.Kappa) -> None:
    pydantic = pytest.importorskip("pydantic")

    class Inner(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        at: datetime.datetime

    class Product(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        title: str
        price: float
        inner: Inner
        tags: list[str] = []

    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = db.products.create(Product(title="Mate", price=1.5, inner=Inner(at=moment)))
    assert made["inner"] == {"at": "2026-01-01T00:00:00+00:00"}
    assert Product.model_validate(db.products.get(made["id"])).inner.at == moment


def test_many_ids_may_come_from_any_iterable(db: kappa_core.Kappa) -> None:
    for name in "abc":
        db.users.create({"id": name})
    expected = [{"id": "c"}, None, {"id": "a"}]
    for ids in (["c", "x", "a"], ("c", "x", "a"), iter(["c", "x", "a"]), {"c": 1, "x": 2, "a": 3}.keys()):
        assert db.users.get_many(ids) == expected


def test_times_to_live_in_seconds_and_timedeltas(db: kappa_core.Kappa) -> None:
    things = db.collection("things", ttl=datetime.timedelta(hours=1))
    assert things.describe()["definition"]["ttl_ms"] == 3_600_000
    assert db.collection("others", ttl=1.5).describe()["definition"]["ttl_ms"] == 1_500
    things.create({"id": "a"}, ttl=60)
    things.update("a", {"x": 1}, ttl=datetime.timedelta(minutes=2))
    assert things.get("a") == {"id": "a", "x": 1}


def test_documents_of_many_shapes_come_back_whichever_way_they_are_read(db: kappa_core.Kappa) -> None:
    """Names of fields are kept once an answer and guessed from the document before: a wrong guess would give a value to
    another field."""
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    chance = random.Random(seed)
    names = [f"n{number}" for number in range(40)] + ["x" * length for length in (0, 1, 63, 64, 65, 300)] + ["ñ", '"', "\\"]

    def document(number: int) -> dict[str, Any]:
        picked = chance.sample(names, chance.randrange(len(names)))
        values: dict[str, Any] = {name: chance.choice([number, str(number), [], {}, {name: [number]}]) for name in picked}
        return {"id": f"{number:04}", **values}

    shapes = db.collection("shapes")
    made = [document(number) for number in range(300)]
    batch = db.batch()
    for one in made:
        batch.create("shapes", one)
    batch.commit()
    ids = [one["id"] for one in made]
    assert [shapes.get(id) for id in ids] == made
    assert shapes.get_many([*ids, "none"]) == [*made, None]
    assert [list(one) for one in shapes.get_many(ids) if one] == [list(one) for one in made], "the order of fields"
    for page_size in (1, 7, 100, 1000):
        assert list(shapes.list(page_size=page_size)) == made
    entries = [shapes.entry(id) for id in ids]
    assert [entry["value"] for entry in entries if entry] == made
    assert shapes.page(page_size=300)["items"] == entries


def test_documents_of_many_shapes_come_back_together(db: kappa_core.Kappa) -> None:
    """Dicts of one shape are copies of one template: none may get the names, the order or the values of another."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    things = db.collection("things")
    documents = [_of_some_shape(chance, number) for number in range(1000)]
    ids = [made["id"] for made in map(things.create, documents)]
    for found, document in zip(things.get_many(ids), documents, strict=True):
        expected = {"id": found["id"], **document} if found else None
        assert json.dumps(found) == json.dumps(expected)
    listed = {made["id"]: made for made in things.list(page_size=300)}
    assert json.dumps([listed[one] for one in ids]) == json.dumps(things.get_many(ids))


def _of_some_shape(chance: random.Random, number: int) -> dict[str, Any]:
    names = ["a", "b", "c", "d", "e", "n" * 100]
    inside = {"x": number, "y": [{"z": number}, {}]}
    match chance.randrange(6):
        case 0:
            return {name: number for name in names}
        case 1:
            return {name: [number] for name in reversed(names)}
        case 2:
            return {name: inside for name in names if chance.random() < 0.5}
        case 3:
            return {f"own {number}": number}
        case 4:
            # More names, and more beginnings of shapes, than are kept.
            return {f"{name}{chance.randrange(100)}": inside for name in names * 20}
        case _:
            return {}


def test_documents_of_one_shape_share_nothing_that_changes(db: kappa_core.Kappa) -> None:
    """A dict that was given out is the caller's: what is done to it must not show in another, or in a later answer."""
    things = db.collection("things")
    ids = [things.create({"a": [number], "b": {"c": number}, "d": "same"})["id"] for number in range(100)]
    found = things.get_many(ids)
    untouched = json.dumps(found[1:])
    first = found[0]
    assert first
    first["a"].append("more")
    first["b"]["c"] = "other"
    del first["d"]
    first["e"] = None
    assert json.dumps(found[1:]) == untouched
    again = things.get_many(ids)
    assert json.dumps(again[1:]) == untouched
    assert again[0] == {"id": ids[0], "a": [0], "b": {"c": 0}, "d": "same"}


def test_a_name_inside_is_not_a_name_outside(db: kappa_core.Kappa) -> None:
    """Dicts within dicts have shapes of their own, though their names come between those of the one around them."""
    things = db.collection("things")
    made = [things.create({"a": {"x": number, "y": {"x": -number}}, "x": number}) for number in range(50)]
    found = things.get_many([one["id"] for one in made])
    assert json.dumps(found) == json.dumps(made)
    assert [list(one) for one in found if one] == [["id", "a", "x"]] * 50


def test_ids_of_every_kind_are_found(db: kappa_core.Kappa) -> None:
    """Ids are taken over in one piece: where one ends and the next begins must not be lost."""
    things = db.collection("things")
    ids = ["a", "ñandú", "日本", "😀", "a" * 100, "0"]
    for one in ids:
        things.create({"id": one, "is": one})
    for given in (ids, tuple(ids), iter(ids), dict.fromkeys(ids).keys()):
        assert [one and one["is"] for one in things.get_many(given)] == ids
    assert things.get_many([]) == []
    assert things.get_many(["aa", "a", "", "b"][:2]) == [None, {"id": "a", "is": "a"}]
    with pytest.raises(kappa_core.InvalidInputError, match="str"):
        things.get_many(["a", 1])  # type: ignore[list-item]
    with pytest.raises(kappa_core.InvalidInputError):
        things.get_many(["a", "\ud800"])
