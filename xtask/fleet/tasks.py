"""A fleet of Node and Python processes that run tasks on one data directory, any of which is killed again and again.

Afterwards every task must have been completed, each by one accepted outcome, and none may be left over. Last of all one
dies while the owner lives: what it had must run again as soon as its leases have ended.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import kappa_core

QUEUE = "fleet"
LEASE = 2.0
PAUSE = 0.5
"""Between two kills; tasks come faster than they are run, so that each kill meets some under way."""
WITHIN = 600.0
"""What is not completed after so many seconds is stuck."""
TOLD_WITHIN = 120.0
"""The feed tells of all tasks within so many seconds."""
BULK = 1_000
LATE_MS = 10_000
"""How long a lease may have ended without being taken back while one owner lives.

The owner looks once a second, and more than two are a fault: the rest is for slow machines. A lease that is found only
when the owner looks at everything, once a minute, is later. While owners die nothing can be said: the figure
rises as long as nobody is there to look.
"""
LOOK = 0.05
"""Between two looks at how late the queue is."""


def work(directory: str, account: str, name: str) -> None:
    """One Python process of the fleet."""

    def handle(task: kappa_core.RunningTask) -> str:
        time.sleep(task.id % 37 / 1000)
        with open(account, "a") as file:
            file.write(f"ran {task.id} {task.fence[1]} {name}\n")
        return f"{name} {task.fence[1]}"

    with kappa_core.open(directory) as db, db.worker(QUEUE, handle, concurrency=8, lease=LEASE, name=name):
        # Ended from outside.
        time.sleep(WITHIN)


class Fleet:
    """The processes, each started again when it was killed."""

    def __init__(self, directory: Path, accounts: Path, node: str) -> None:
        here = [sys.executable, __file__, "work"]
        commands = {"node-0": ["node", node], "node-1": ["node", node], "python-0": here, "python-1": here}
        self.commands = {
            name: [*command, str(directory), str(accounts / f"{name}.txt"), name] for name, command in commands.items()
        }
        self.running = {name: self._start(name) for name in self.commands}

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        # npm's packages are found from where the script lies.
        command = self.commands[name]
        folder = Path(command[1]).parent
        return subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].wait()
        self.running[name] = self._start(name)

    def check(self) -> None:
        for name, process in self.running.items():
            assert process.poll() is None, f"{name} ended by itself: {process.returncode}"

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


def owner_of(directory: Path, fleet: Fleet) -> str | None:
    """Who owns the directory, as its lock says."""
    try:
        text = (directory / "LOCK").read_text().split("\n")[0]
    except OSError:
        return None
    return next((name for name, process in fleet.running.items() if str(process.pid) == text), None)


def kill_holder(db: kappa_core.Kappa, directory: Path, fleet: Fleet, until: float) -> set[int]:
    """Kills a process that runs tasks and does not own the directory; which tasks it had. None when all have ended."""
    while True:
        owner = owner_of(directory, fleet)
        active = {task["id"]: task["worker"] for task in db.tasks.list(queue=QUEUE, state="active", page_size=100)}
        others = sorted({name for name in active.values() if name is not None} - {owner})
        if owner and others:
            fleet.kill(others[0])
            # Some outcomes are on their way when it dies, and some tasks come after the first look.
            now = {task["id"]: task["worker"] for task in db.tasks.list(queue=QUEUE, state="active", page_size=100)}
            return {id for id, name in now.items() if name == others[0]}
        queue = db.tasks.queue(QUEUE)
        if queue["waiting"] + queue["active"] == 0:
            return set()
        assert time.monotonic() < until, f"nobody but the owner runs tasks: {queue}"


def take_back(db: kappa_core.Kappa, directory: Path, fleet: Fleet) -> tuple[int, int, int]:
    """Kills one process, and none after it until every task has been completed. How many tasks it added, how many were
    taken back from the dead, and how late at most, in milliseconds."""
    added = back = latest = 0
    until = time.monotonic() + WITHIN
    while back == 0:
        db.tasks.enqueue_many({"queue": QUEUE, "params": number} for number in range(BULK))
        added += BULK
        held = kill_holder(db, directory, fleet, until)
        while True:
            fleet.check()
            queue = db.tasks.queue(QUEUE)
            latest = max(latest, queue["overdue_ms"])
            assert latest <= LATE_MS, f"a lease ended {latest} ms ago and was not taken back: {queue}"
            if queue["waiting"] + queue["delayed"] + queue["active"] == 0:
                break
            assert time.monotonic() < until, f"stuck: {queue}"
            time.sleep(LOOK)
        back = sum(task["attempt"] > 1 for task in map(db.tasks.get, held) if task is not None)
        # It may have died with nothing but outcomes on their way, or too late to have had any task.
        assert back or time.monotonic() < until, "no process died with a task"
    return added, back, latest


def completions(db: kappa_core.Kappa, within: float = TOLD_WITHIN) -> dict[int, int]:
    """How often the feed tells that each task was completed."""
    found: dict[int, int] = {}
    last = db.tasks.enqueue("last")["id"]
    changes = db.changes(start="oldest")
    # Otherwise a feed that never tells of the last task would be waited for without an end.
    late = threading.Timer(within, changes.close)
    late.start()
    seen = 0
    try:
        for change in changes:
            seen += 1
            task = change["document"]
            if change["collection"] != "kappa:tasks" or task is None:
                continue
            if task["id"] == last:
                return found
            if task["state"] == "completed":
                found[task["id"]] = found.get(task["id"], 0) + 1
    finally:
        late.cancel()
    raise AssertionError(
        f"the feed did not tell within {within:.0f} s that task {last} was enqueued; "
        f"it told {seen} changes up to cursor {changes.cursor}, and that {len(found)} tasks were completed"
    )


def check(directory: Path, accounts: Path, count: int, told: str) -> None:
    """Compares what the queue says with what the feed said and what the handlers wrote down."""
    runs: dict[int, set[int]] = {}
    for account in accounts.glob("*.txt"):
        for line in account.read_text().splitlines():
            # The last line of a process that was killed may be cut.
            if line.startswith("ran ") and len(line.split()) == 4:
                _, id, run, _ = line.split()
                assert int(run) not in runs.setdefault(int(id), set()), f"task {id} ran twice as run {run}"
                runs[int(id)].add(int(run))
    with kappa_core.open(directory) as db:
        told_by_feed = completions(db)
        queue = db.tasks.queue(QUEUE)
        tasks = list(db.tasks.list(queue=QUEUE, page_size=1_000))
    left = {state: queue[state] for state in ("waiting", "delayed", "active", "failed", "cancelled")}
    assert not any(left.values()), f"left over: {left}"
    assert len(tasks) == queue["completed"] == count, f"tasks={len(tasks)} completed={queue['completed']} of {count}"
    for task in tasks:
        name, run = task["result"].split()
        assert told_by_feed[task["id"]] == 1, f"task {task['id']} was completed {told_by_feed[task['id']]} times"
        assert int(run) in runs[task["id"]], f"task {task['id']} has the result of a run that {name} did not make"
    again = sum(task["attempt"] > 1 for task in tasks)
    print(f"{told}; {count} tasks were completed once each, {again} of them after a run that died", flush=True)


def run(directory: Path, accounts: Path, node: str, count: int, seed: int) -> None:
    print(f"{count} tasks, seed {seed}", flush=True)
    chance = random.Random(seed)
    with kappa_core.open(directory) as db:
        db.tasks.configure(QUEUE, keep_count=10 * count, attempts=1_000, keep="1d")
        db.tasks.enqueue_many({"queue": QUEUE, "params": number} for number in range(BULK))
    fleet = Fleet(directory, accounts, node)
    kills = owners = latest = 0
    added, begun = BULK, time.monotonic()
    try:
        with kappa_core.open(directory, mode="client", deadline=60) as db:
            while True:
                fleet.check()
                if added < count:
                    tasks = ({"queue": QUEUE, "params": added + number} for number in range(BULK))
                    db.tasks.enqueue_many(tasks)
                    added += BULK
                queue = db.tasks.queue(QUEUE)
                latest = max(latest, queue["overdue_ms"])
                if added >= count and queue["completed"] + queue["failed"] + queue["cancelled"] >= added:
                    break
                assert time.monotonic() - begun < WITHIN, f"stuck: {queue}"
                time.sleep(PAUSE)
                owner = owner_of(directory, fleet)
                # Any of them, and every other time the one that owns the directory.
                name = owner if owner and chance.random() < 0.5 else chance.choice(list(fleet.commands))
                owners += name == owner
                kills += 1
                fleet.kill(name)
            seconds = time.monotonic() - begun
            more, back, late = take_back(db, directory, fleet)
    finally:
        fleet.end()
    told = f"{kills} kills, {owners} of them of the owner, in {seconds:.0f} s; leases were seen up to {latest} ms late"
    told += f", and up to {late} ms while one owner lived and took {back} tasks back"
    check(directory, accounts, added + more, told)


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(*sys.argv[2:])
    else:
        place, node, count = sys.argv[1:]
        accounts = Path(place) / "accounts"
        accounts.mkdir()
        run(Path(place) / "data", accounts, node, int(count), time.time_ns() % 1_000_000)
