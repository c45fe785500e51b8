"""How long asyncio's loop is kept from its work while 64 durable creates are in flight and 10^8 numbers are drawn."""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from kappa_core import aio
from support import describe, product, settle

ROUNDS = 5
ROUND_SECONDS = 3.0
IN_FLIGHT = 64
DRAWS = 10**8
TICK = 0.001
GOAL_MS = 10.0


async def delays(end: float) -> list[float]:
    """How much later than asked a task woke up, in milliseconds, in order of size."""
    found = []
    while (begun := time.perf_counter()) < end:
        await asyncio.sleep(TICK)
        found.append((time.perf_counter() - begun - TICK) * 1e3)
    return sorted(found)


async def under_load(db: aio.Kappa) -> tuple[list[float], int, int]:
    end = time.perf_counter() + ROUND_SECONDS
    created = drawn = 0

    async def write() -> None:
        nonlocal created
        while time.perf_counter() < end:
            created += 1
            await db.products.create(product(created))

    async def draw() -> None:
        nonlocal drawn
        while time.perf_counter() < end:
            await aio.histogram(DRAWS)
            drawn += 1

    found, *_ = await asyncio.gather(delays(end), draw(), *(write() for _ in range(IN_FLIGHT)))
    return found, created, drawn


def p99(found: list[float]) -> float:
    return found[len(found) * 99 // 100]


def say(name: str, found: list[float], more: str = "") -> None:
    figures = f"{found[len(found) // 2]:>8.2f} {p99(found):>8.2f} {found[-1]:>8.2f}"
    print(f"  {name:<10} {figures}{more}")


async def main() -> None:
    describe("asyncio event-loop delay")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=sys.argv[1]) as directory:
        async with aio.open(Path(directory) / "kappa", mode="owner") as db:
            print("\n  delay, ms       p50      p99      max")
            worst = 0.0
            for _ in range(ROUNDS):
                settle()
                say("idle", await delays(time.perf_counter() + ROUND_SECONDS))
                found, created, drawn = await under_load(db)
                say("under load", found, f"   {created} created, {drawn} x 10^8 drawn")
                worst = max(worst, p99(found))
    verdict = "reached" if worst < GOAL_MS else "MISSED"
    print(f"  goal: p99 under {GOAL_MS:g} ms in each round: {verdict} ({worst:.2f})")


asyncio.run(main())
