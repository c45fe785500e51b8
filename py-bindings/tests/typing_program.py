"""A user's program as the type checkers see it; it is checked, not run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

import kappa_core
from kappa_core import Change, CollectionInfo, Document, Entry, Histogram, Page, aio


@dataclass
class Product:
    title: str
    price: float


def sync() -> None:
    with kappa_core.open("data", durability="written", decimals=True) as db:
        made = db.products.create({"title": "Mate", "price": 12.5}, ttl=60)
        assert_type(made, dict[str, Any])
        db.products.create(Product("Mate", 12.5), idempotency_key="k")
        assert_type(db.products.get("a"), Document | None)
        assert_type(db.products.entry("a"), Entry | None)
        assert_type(db.products.get_many(["a"]), list[Document | None])
        assert_type(db.products.delete("a", if_version="1"), bool)
        assert_type(db.products.count(), int)
        for document in db.products.list("price", from_=1, to=2, reverse=True, limit=3):
            assert_type(document, Document)
        page = db.products.page(page_size=2)
        assert_type(page, Page)
        assert_type(page["items"][0]["version"], str)
        orders = db.collection("orders", indexes=["user", {"field": "number", "unique": True}])
        assert_type(orders.describe(), CollectionInfo)
        assert_type(db.batch().create("orders", {}).delete("orders", "a").commit(), list[Any])
        for change in db.changes(start="oldest"):
            assert_type(change, Change)
            assert_type(change["document"], Document | None)
    assert_type(kappa_core.histogram(1, range=(1, 6)), Histogram)
    assert_type(memoryview(kappa_core.histogram(1)).nbytes, int)
    try:
        kappa_core.in_memory().products.get("a")
    except kappa_core.NotFoundError as error:
        assert_type(error.code, str)


async def awaited() -> None:
    async with aio.open("data", view="memory") as db:
        assert_type(await db.products.create({"title": "Mate", "price": 12.5}), Document)
        assert_type(await db.products.get("a"), Document | None)
        async for document in db.products.list():
            assert_type(document, Document)
        orders = await db.collection("orders", indexes=["user"])
        assert_type(await orders.page(), Page)
        assert_type(await db.batch().update("orders", "a", {}).commit(), list[Any])
        async for change in db.changes():
            assert_type(change, Change)
    other = await aio.in_memory()
    assert_type(other, aio.Kappa)
    assert_type(await aio.histogram(1), Histogram)


def wrong(db: kappa_core.Kappa) -> None:
    db.products.get(1)  # type: ignore[arg-type]
    db.products.create([])  # type: ignore[arg-type]
    kappa_core.open("data", durability="maybe")  # type: ignore[arg-type]
    db.products.delete("a", if_version=1)  # type: ignore[arg-type]
    db.changes(start="later")  # type: ignore[arg-type]
