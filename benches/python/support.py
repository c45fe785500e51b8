"""What the side-by-side runs in Python share: rounds, made-up products, hot ids."""

import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable

DOCUMENTS = 100_000
HOT = 10_000
# Bytes of a product's text, as in the benches of Rust.
BYTES = 300
DESCRIPTION = (
    "A sturdy everyday thing made of wood and steel that lasts longer than its price suggests, comes with all that is "
    "needed to put it up, and can be taken apart and repaired with ordinary tools; in stock in three colours, delivered "
    "within two days."
)


def identity(number: int) -> str:
    """An id as long as those that Kappa makes, and ascending as they do."""
    return f"01890000-0000-7000-8000-{number:012x}"


def text(document: dict) -> str:
    return json.dumps(document, separators=(",", ":"))


def product(number: int) -> dict:
    """A product without an id."""
    return _filled({}, number)


def product_with_id(number: int) -> dict:
    """A product whose JSON text has 300 bytes."""
    return _filled({"id": identity(number)}, number)


def _filled(made: dict, number: int) -> dict:
    made |= {"title": f"Product {number}", "price": number % 100_000 + number % 100 / 100, "stock": number % 1000}
    made |= {"thumbnail": f"https://shop.example/{number}.jpg", "description": ""}
    made["description"] = DESCRIPTION[: BYTES - len(text(made))]
    return made


def hot_ids(count: int) -> list[str]:
    """Each of the hot ids equally often, spread over the whole range; the same in every run."""
    numbers = random.Random(1)
    return [identity(numbers.randrange(HOT) * (DOCUMENTS // HOT)) for _ in range(count)]


def fill(db) -> None:
    """Creates all products."""
    for start in range(0, DOCUMENTS, 500):
        batch = db.batch()
        for number in range(start, start + 500):
            batch.create("products", product_with_id(number))
        batch.commit()


def describe(bench: str) -> None:
    """Prints the shape of the machine and how busy it is."""
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"\n== {bench}: Python {platform.python_version()}, {cores} cores, load {load:.2f} before the start")


def settle() -> None:
    """Waits until background work of this process has ended, at most 20 s."""
    end, quiet = time.monotonic() + 20, 0
    while quiet < 3 and time.monotonic() < end:
        before = time.process_time()
        time.sleep(0.05)
        quiet = 0 if time.process_time() - before > 0.005 else quiet + 1


class Rounds:
    """The figures of several subjects that take turns; a ratio is taken within its round."""

    def __init__(self, title: str, unit: str) -> None:
        self.title, self.unit = title, unit
        self.subjects: dict[str, list[float]] = {}

    def add(self, subject: str, figure: float) -> None:
        self.subjects.setdefault(subject, []).append(figure)

    def print(self) -> None:
        rounds = len(next(iter(self.subjects.values())))
        print(f"\n{self.title} ({self.unit}, {rounds} rounds)")
        print(f"  {'':<38} {'min':>12} {'median':>12} {'max':>12}")
        for name, figures in self.subjects.items():
            print(f"  {name:<38} {_columns(figures)}")

    def ratio(self, of: str, to: str, goal: float | None = None) -> None:
        """Prints the ratio of two subjects, and where there is a goal whether its median is at least that."""
        ratios = [one / other for one, other in zip(self.subjects[of], self.subjects[to], strict=True)]
        judged = ""
        if goal is not None:
            verdict = "reached" if statistics.median(ratios) >= goal else "MISSED"
            judged = f"   goal: at least {goal}: {verdict}"
        print(f"  {f'{of} / {to}':<38} {_columns(ratios)}{judged}")


def _columns(figures: list[float]) -> str:
    median = statistics.median(figures)
    digits = 3 if median < 10 else 0
    return " ".join(f"{figure:>12.{digits}f}" for figure in (min(figures), median, max(figures)))


def take_turns(title: str, unit: str, work: int, rounds: int, subjects: dict[str, Callable[[], int]]) -> Rounds:
    """Runs each subject once in a round; each gives a sum that must be the same for all."""
    found = Rounds(title, unit)
    for number in range(rounds + 1):
        sums = set()
        for name, subject in subjects.items():
            start = time.perf_counter()
            sums.add(subject())
            # The first round fills caches.
            if number > 0:
                found.add(name, work / (time.perf_counter() - start) / 1e3)
        assert len(sums) == 1, f"all must read the same: {sums}"
    found.print()
    return found
