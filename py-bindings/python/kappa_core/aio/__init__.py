"""The same database for asyncio: the same names, awaited.

    import kappa_core.aio

    db = await kappa_core.aio.open("data")
    async with db:
        mate = await db.products.create({"title": "Mate", "price": 12.5})
        async for product in db.products.list():
            print(product)

No call runs on the thread of the event loop, and none of Kappa's threads ever waits for Python. Cancelling an awaiting
task gives up the answer; a write that was handed in may still happen, a histogram stops.
"""

from .batch import Batch
from .changes import Changes
from .kappa import Kappa, Opening, connect, histogram, in_memory, open
from .store import Collection, Products, Users
from .tasks import Tasks
from .worker import Worker

__all__ = [
    "Batch",
    "Changes",
    "Collection",
    "Kappa",
    "Opening",
    "Products",
    "Tasks",
    "Users",
    "Worker",
    "connect",
    "histogram",
    "in_memory",
    "open",
]
