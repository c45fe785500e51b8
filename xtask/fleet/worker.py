"""One Python process of a fleet on one data directory: writes and reads, follows the feed, or checks the accounts."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import kappa_core

LAST = "the-last-document"
stopping = False


def stop(*_: object) -> None:
    global stopping
    stopping = True


def write(directory: str, accounts: Path, name: str) -> None:
    name = f"{name}-{os.getpid()}"
    with open(accounts / f"{name}.txt", "a", buffering=1) as account, kappa_core.open(directory) as db:
        orders, slowest, number = db.collection("orders"), 0.0, 0
        while not stopping:
            mark, number = f"{name}-{number}", number + 1
            try:
                begun = time.monotonic()
                made = orders.create({"mark": mark, "state": "new"})
                account.write(f"made {mark}\n")
                read = orders.get(made["id"])
                if read is None or read["mark"] != mark:
                    account.write(f"failed a read after its write {mark}\n")
                orders.update(made["id"], {"state": "paid"})
                account.write(f"paid {mark}\n")
                slowest = max(slowest, time.monotonic() - begun)
            except kappa_core.KappaError as error:
                account.write(f"failed {error.code} {error}\n")
        account.write(f"slowest {slowest * 1000:.0f}\n")


def ask(port: str, accounts: Path, name: str) -> None:
    """As `write`, through the server; while that is being started again nothing is asked of it."""
    with open(accounts / f"{name}-{os.getpid()}.txt", "a", buffering=1) as account:
        number = 0
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        while not stopping:
            mark, number = f"{name}-{os.getpid()}-{number}", number + 1
            try:
                body = json.dumps({"mark": mark, "state": "paid"})
                key = {"Idempotency-Key": mark, "Content-Type": "application/json"}
                connection.request("POST", "/v1/collections/orders", body, key)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 201:
                    account.write(f"made {mark}\npaid {mark}\n")
                elif answer.status != 503:
                    account.write(f"failed {answer.status} {text!r}\n")
            except (OSError, http.client.HTTPException):
                connection.close()
                time.sleep(0.05)


def follow(directory: str, accounts: Path) -> None:
    """Never owns the directory, so that its feed lives through every change of owner. Asked to leave, it writes a
    last document and follows up to there."""
    with kappa_core.open(directory, mode="client") as db, open(accounts / "feed", "w", buffering=1) as seen:
        last = threading.Thread(target=lambda: db.collection("ends").create({"id": LAST}))
        signal.signal(signal.SIGTERM, lambda *_: last.start())
        for change in db.changes(start="oldest"):
            seen.write(f"{change['version']} {change['kind']} {change['id']}\n")
            if change["id"] == LAST:
                break
        last.join()


def check(directory: str, accounts: Path) -> None:
    with kappa_core.open(directory) as db:
        documents = list(db.collection("orders").list())
        assert db.check() == []
        history = []
        for change in db.changes(start="oldest"):
            history.append(change)
            if change["id"] == LAST:
                break
    lines = [line for file in accounts.glob("*.txt") for line in file.read_text().splitlines()]
    made = {line.split(" ", 1)[1] for line in lines if line.startswith("made ")}
    paid = {line.split(" ", 1)[1] for line in lines if line.startswith("paid ")}
    failed = Counter(line for line in lines if line.startswith("failed "))
    slowest = max((int(line.split()[1]) for line in lines if line.startswith("slowest ")), default=0)
    marks = Counter(one["mark"] for one in documents)
    state = {one["mark"]: one["state"] for one in documents}
    lost = made - marks.keys()
    unpaid = {mark for mark in paid if state.get(mark) != "paid"}
    doubled = {mark: count for mark, count in marks.items() if count > 1}
    told = [line.split()[:3] for line in (accounts / "feed").read_text().splitlines()]
    expected = [[change["version"], change["kind"], change["id"]] for change in history]
    print(f"acknowledged={len(made)} documents={len(documents)} changes={len(told)} slowest_ms={slowest}")
    for line, count in failed.most_common(10):
        print(f"{count} x {line}")
    print(f"lost={len(lost)} unpaid={len(unpaid)} doubled={len(doubled)} failed={sum(failed.values())}")
    assert not lost and not unpaid and not doubled, (list(lost)[:3], list(unpaid)[:3], list(doubled)[:3])
    assert not failed, "a call failed"
    assert told == expected[: len(told)], "the feed that was followed is not the history"
    assert len(told) == len(expected), f"the feed ends early: {len(told)} of {len(expected)}"
    created = Counter(change[2] for change in expected if change[1] == "created")
    assert created.keys() == {LAST} | {one["id"] for one in documents} and set(created.values()) <= {1}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    role, directory, accounts, *rest = sys.argv[1:]
    roles = {"write": write, "ask": ask, "follow": follow, "check": check}
    roles[role](directory, Path(accounts), *rest)
