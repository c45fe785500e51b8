"""Point reads, lists and 8 reading threads of an owner process, against sqlite3 and py-lmdb with the same ids and values.

Every subject hands over dicts.
"""

import json
import sqlite3
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kappa_core
import lmdb
from support import DOCUMENTS, describe, fill, hot_ids, product_with_id, settle, take_turns, text

READS = 40_000
READS_BY_THREADS = 4 * READS
LISTED = 10_000
THREADS = 8
ROUNDS = 11


def fill_sqlite(place: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(place, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE products (id TEXT PRIMARY KEY, document TEXT) WITHOUT ROWID")
    made = (product_with_id(number) for number in range(DOCUMENTS))
    connection.executemany("INSERT INTO products VALUES (?, ?)", ((one["id"], text(one)) for one in made))
    connection.commit()
    return connection


def fill_lmdb(place: Path) -> lmdb.Environment:
    environment = lmdb.open(str(place), map_size=1 << 30)
    with environment.begin(write=True) as transaction:
        for number in range(DOCUMENTS):
            made = product_with_id(number)
            transaction.put(made["id"].encode(), text(made).encode())
    return environment


def points(products: kappa_core.Products, connection: sqlite3.Connection, environment: lmdb.Environment) -> None:
    ids = hot_ids(READS)

    def kappa() -> int:
        return sum(products.get(one)["stock"] for one in ids)

    def many() -> int:
        chunks = (ids[start : start + 1000] for start in range(0, READS, 1000))
        return sum(found["stock"] for chunk in chunks for found in products.get_many(chunk))

    def sqlite() -> int:
        select = "SELECT document FROM products WHERE id = ?"
        return sum(json.loads(connection.execute(select, (one,)).fetchone()[0])["stock"] for one in ids)

    def one_lmdb(one: str) -> int:
        with environment.begin() as transaction:
            return json.loads(transaction.get(one.encode()))["stock"]

    subjects = {
        "kappa get": kappa,
        "kappa get_many of 1000": many,
        "sqlite3, json.loads": sqlite,
        "py-lmdb, a transaction a read": lambda: sum(map(one_lmdb, ids)),
    }
    rounds = take_turns("point reads, 10000 hot ids", "thousand reads/s", READS, ROUNDS, subjects)
    rounds.ratio("kappa get", "sqlite3, json.loads", 1)
    rounds.ratio("kappa get", "py-lmdb, a transaction a read")
    rounds.ratio("kappa get_many of 1000", "py-lmdb, a transaction a read")


def lists(products: kappa_core.Products, connection: sqlite3.Connection, environment: lmdb.Environment) -> None:
    def sqlite() -> int:
        rows = connection.execute("SELECT document FROM products ORDER BY id LIMIT ?", (LISTED,))
        return sum(json.loads(document)["stock"] for (document,) in rows)

    def in_lmdb() -> int:
        with environment.begin() as transaction:
            pairs = zip(transaction.cursor(), range(LISTED), strict=False)
            return sum(json.loads(value)["stock"] for (_, value), _ in pairs)

    subjects = {
        "kappa list": lambda: sum(one["stock"] for one in products.list(limit=LISTED)),
        "kappa list, page_size 1000": lambda: sum(one["stock"] for one in products.list(limit=LISTED, page_size=1000)),
        "sqlite3, json.loads": sqlite,
        "py-lmdb, json.loads": in_lmdb,
    }
    rounds = take_turns("the first 10000 in their order", "thousand documents/s", LISTED, ROUNDS, subjects)
    rounds.ratio("kappa list, page_size 1000", "sqlite3, json.loads", 1)
    rounds.ratio("kappa list, page_size 1000", "py-lmdb, json.loads")
    rounds.ratio("kappa list", "sqlite3, json.loads")


def threads(products: kappa_core.Products) -> None:
    """The same reads by one thread and by eight."""
    # So many that the beginning and the end of a round, where fewer threads run, weigh little.
    ids = hot_ids(READS_BY_THREADS)
    parts = [ids[start::THREADS] for start in range(THREADS)]
    chunks = [[part[start : start + 1000] for start in range(0, len(part), 1000)] for part in parts]

    def get(part: list[str]) -> int:
        return sum(products.get(one)["stock"] for one in part)

    def many(part: list[list[str]]) -> int:
        return sum(found["stock"] for chunk in part for found in products.get_many(chunk))

    with ThreadPoolExecutor(THREADS) as pool:
        subjects = {
            "get, 1 thread": lambda: get(ids),
            "get, 8 threads": lambda: sum(pool.map(get, parts)),
            "get_many, 1 thread": lambda: sum(map(many, chunks)),
            "get_many, 8 threads": lambda: sum(pool.map(many, chunks)),
        }
        rounds = take_turns("kappa, reads by threads", "thousand reads/s", READS_BY_THREADS, ROUNDS, subjects)
    rounds.ratio("get, 8 threads", "get, 1 thread", 1.6)
    rounds.ratio("get_many, 8 threads", "get_many, 1 thread", 1.6)


def main() -> None:
    describe("python reads")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=sys.argv[1]) as directory:
        place = Path(directory)
        # The end drains everything into the view's store: what is read afterwards is there, not in a memtable.
        with kappa_core.open(place / "kappa", mode="owner") as db:
            fill(db)
        connection, environment = fill_sqlite(place / "sqlite"), fill_lmdb(place / "lmdb")
        with kappa_core.open(place / "kappa", mode="owner") as db:
            settle()
            points(db.products, connection, environment)
            lists(db.products, connection, environment)
            threads(db.products)
        connection.close()
        environment.close()


main()
