"""The task queue in a Python process, against honker, a queue in a SQLite file.

honker opens its file with WAL and ``synchronous=NORMAL``: what was answered may be lost at a power cut. Kappa's level that
promises as much is ``written``, which is compared; ``synced``, where nothing that was answered is lost, is reported beside it.
"""

import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import honker
import kappa_core
import kappa_core.aio
from support import Rounds, describe, settle

ROUNDS = int(os.environ.get("KAPPA_BENCH_ROUNDS", "7"))
ROUND_SECONDS = 0.5
IN_FLIGHT = 128
BULK = 1_000
BULKS = 10
PROCESSED = 5_000
CLAIMED = 64


def params(number: int) -> dict:
    """What a small task carries."""
    return {"to": f"user-{number}@example.com", "template": "welcome", "order": number}


class Honker:
    """honker as the bench asks for it."""

    def __init__(self, place: str) -> None:
        self.db = honker.open(os.path.join(place, "honker.db"))
        [row] = self.db.query("PRAGMA synchronous")
        assert list(row.values()) == [1], f"honker syncs otherwise than was thought: {row}"

    def one(self, name: str) -> float:
        queue = self.db.queue(name)
        return rate(lambda number: queue.enqueue(params(number)))

    def many(self, name: str) -> float:
        queue = self.db.queue(name)
        return threads(lambda number: queue.enqueue(params(number)))

    def bulk(self, name: str, count: int = BULKS * BULK) -> float:
        queue = self.db.queue(name)
        start = time.perf_counter()
        for first in range(0, count, BULK):
            with self.db.transaction() as tx:
                for number in range(first, first + BULK):
                    queue.enqueue(params(number), tx=tx)
        return count / (time.perf_counter() - start)

    def process(self, name: str) -> float:
        """As many as Kappa's worker has under way are claimed and ended together: the fastest way that honker offers."""
        self.bulk(name, PROCESSED)
        queue = self.db.queue(name)
        settle()
        start = time.perf_counter()
        left = PROCESSED
        while left:
            jobs = queue.claim_batch("bench", CLAIMED)
            left -= queue.ack_batch([job.id for job in jobs], "bench")
        return PROCESSED / (time.perf_counter() - start)


class Kappa:
    """Kappa at one of its durability levels."""

    def __init__(self, place: str, durability: str) -> None:
        self.place = os.path.join(place, durability)
        self.durability = durability
        self.db = kappa_core.open(self.place, mode="owner", durability=durability)

    def one(self, name: str) -> float:
        return rate(lambda number: self.db.tasks.enqueue(name, params(number)))

    def many(self, name: str) -> float:
        return threads(lambda number: self.db.tasks.enqueue(name, params(number)))

    def bulk(self, name: str, count: int = BULKS * BULK) -> float:
        start = time.perf_counter()
        for first in range(0, count, BULK):
            self.db.tasks.enqueue_many({"queue": name, "params": params(number)} for number in range(first, first + BULK))
        return count / (time.perf_counter() - start)

    def process(self, name: str) -> float:
        self.bulk(name, PROCESSED)
        settle()
        done = threading.Event()
        left = iter(range(PROCESSED - 1, -1, -1))

        def handle(_: object) -> None:
            if next(left) == 0:
                done.set()

        start = time.perf_counter()
        worker = self.db.worker(name, handle, concurrency=CLAIMED)
        done.wait()
        # Returns when the last outcome was taken.
        worker.stop()
        seconds = time.perf_counter() - start
        queue = self.db.tasks.queue(name)
        assert queue["waiting"] + queue["active"] == 0, queue
        return PROCESSED / seconds


async def on_a_loop(place: str, rounds: range, name: str) -> list[float]:
    """The same calls on an event loop, as many at a time as there are threads elsewhere."""
    rates = []
    async with await kappa_core.aio.open(place, mode="owner", durability="written") as db:
        for number in rounds:
            start = time.perf_counter()
            counts = await asyncio.gather(*(adding(db, f"{name}-{number}", start) for _ in range(IN_FLIGHT)))
            rates.append(sum(counts) / (time.perf_counter() - start))
    return rates


async def adding(db: kappa_core.aio.Kappa, name: str, start: float) -> int:
    count = 0
    while time.perf_counter() - start < ROUND_SECONDS:
        await db.tasks.enqueue(name, params(count))
        count += 1
    return count


def rate(add: Callable[[int], object]) -> float:
    """Adds one after another for a while; how many a second."""
    start = time.perf_counter()
    count = 0
    while time.perf_counter() - start < ROUND_SECONDS:
        add(count)
        count += 1
    return count / (time.perf_counter() - start)


def threads(add: Callable[[int], object]) -> float:
    """The same from as many threads as there are calls in flight."""
    counts: list[int] = []
    gate = threading.Barrier(IN_FLIGHT + 1)

    def run() -> None:
        gate.wait()
        start = time.perf_counter()
        count = 0
        while time.perf_counter() - start < ROUND_SECONDS:
            add(count)
            count += 1
        counts.append(count)

    running = [threading.Thread(target=run) for _ in range(IN_FLIGHT)]
    for thread in running:
        thread.start()
    gate.wait()
    start = time.perf_counter()
    for thread in running:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def compare(place: str) -> None:
    subjects = {
        "kappa, written": Kappa(place, "written"),
        "honker": Honker(place),
        "kappa, synced": Kappa(place, "synced"),
    }
    loads = [
        ("one", "enqueue, 1 in flight", None),
        ("many", f"enqueue, {IN_FLIGHT} threads", 1.0),
        ("bulk", f"enqueue in bulk, {BULK} at a time", 1.0),
        ("process", f"process, {CLAIMED} at a time", None),
    ]
    for load, title, goal in loads:
        found = Rounds(f"tasks: {title}", "tasks/s")
        for number in range(ROUNDS + 1):
            for name, subject in subjects.items():
                settle()
                figure = getattr(subject, load)(f"{load}-{number}")
                # The first round makes files.
                if number > 0:
                    found.add(name, figure)
        found.print()
        found.ratio("kappa, written", "honker", goal)
        found.ratio("kappa, synced", "honker")
    for name in ("kappa, written", "kappa, synced"):
        subjects[name].db.close()


with tempfile.TemporaryDirectory(prefix="bench-", dir=sys.argv[1]) as directory:
    describe("python tasks")
    compare(directory)
    rates = asyncio.run(on_a_loop(os.path.join(directory, "loop"), range(ROUNDS + 1), "many"))
    found = Rounds(f"tasks: enqueue, {IN_FLIGHT} in flight on an event loop, written", "tasks/s")
    for figure in rates[1:]:
        found.add("kappa", figure)
    found.print()
