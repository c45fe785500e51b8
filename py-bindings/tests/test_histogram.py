"""Histograms: the same counts for the same seed, read without a copy."""

from __future__ import annotations

import gc
from typing import Any
from xml.etree import ElementTree

import pytest

import kappa_core
from kappa_core import aio


def test_the_seed_decides_and_not_the_threads(run: Any) -> None:
    one = kappa_core.histogram(20_000, range=(1, 6), seed=42, threads=1)
    many = kappa_core.histogram(20_000, range=(1, 6), seed=42)
    awaited = run(aio.histogram(20_000, range=(1, 6), seed=42))
    assert one.counts == many.counts == awaited.counts
    assert sum(one.counts) == one.count == 20_000
    assert (one.range, one.seed, one.method, len(one)) == ((1, 6), 42, "draw", 6)
    assert [one.get(value) for value in range(8)] == [None, *one.counts, None]
    assert repr(one) == "<Histogram of 20000 draws from 1 to 6, draw, seed 42>"
    assert one.elapsed_ms >= 0


def test_the_defaults_are_those_of_core() -> None:
    drawn = kappa_core.histogram(method="multinomial")
    assert (drawn.count, drawn.range, drawn.method) == (100_000_000, (1, 1000), "multinomial")


def test_a_view_holds_the_counts_without_a_copy() -> None:
    drawn = kappa_core.histogram(10_000, range=(-2, 2), seed=1)
    counts = drawn.counts
    view = memoryview(drawn)
    assert (view.format, view.itemsize, view.shape, view.strides, view.ndim) == ("Q", 8, (5,), (8,), 1)
    assert view.readonly and view.contiguous
    assert view.tolist() == counts
    assert bytes(view) == b"".join(count.to_bytes(8, "little") for count in counts)
    with pytest.raises(TypeError):
        view[0] = 1
    del drawn
    gc.collect()
    assert view.tolist() == counts, "the view keeps the counts alive"
    part = view[1:3]
    view.release()
    assert part.tolist() == counts[1:3]


def test_a_writable_view_is_refused() -> None:
    import ctypes

    drawn = kappa_core.histogram(10, range=(1, 6))
    with pytest.raises(TypeError, match="writable|read"):
        (ctypes.c_char * 8).from_buffer(drawn)


def test_numpy_reads_without_a_copy() -> None:
    numpy = pytest.importorskip("numpy")
    drawn = kappa_core.histogram(10_000, range=(1, 100), seed=1)
    counts = numpy.asarray(drawn)
    assert counts.dtype == numpy.uint64
    assert counts.sum() == 10_000
    assert not counts.flags.writeable and not counts.flags.owndata


def test_many_views_leave_nothing_behind() -> None:
    drawn = kappa_core.histogram(10, range=(1, 6), seed=1)
    views = [memoryview(drawn) for _ in range(1000)]
    assert {view[0] for view in views} == {drawn.counts[0]}
    del views
    assert sum(memoryview(drawn)) == 10


def test_the_picture_is_svg() -> None:
    drawn = kappa_core.histogram(10_000, seed=1)
    picture = ElementTree.fromstring(drawn.to_svg(width=640, height=320))
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert (picture.get("width"), picture.get("height")) == ("640", "320")
    assert ElementTree.fromstring(drawn._repr_svg_()).tag == picture.tag


def test_the_machine_describes_itself() -> None:
    info = kappa_core.cpu_info()
    assert info["parallelism"] >= 1
    assert set(info["caches"]) == {"l1d", "l1i", "l2", "l3"}


def test_made_up_products_follow_the_seed(db: kappa_core.Kappa) -> None:
    made = db.products.mock(5, 7)
    assert made == kappa_core.Products.mock(5, 7) == aio.Products.mock(5, 7) != db.products.mock(5, 8)
    assert [product["id"] for product in made] == ["1", "2", "3", "4", "5"]
    for product in made:
        assert db.products.create(product) == product
