"""A thread that waits keeps nobody else waiting, and hears Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import held_up
import pytest

import kappa_core


def test_threads_run_while_one_waits(db: kappa_core.Kappa) -> None:
    """A wait that kept the interpreter's lock would stop every other thread until somebody writes."""
    db.products.create({"id": "p", "title": "Mate", "price": 1})
    changes = db.changes()
    seen: list[str] = []
    waiter = threading.Thread(target=lambda: seen.append(next(changes)["id"]))
    waiter.start()
    read = [0] * 8

    def read_often(number: int) -> None:
        for _ in range(500):
            assert db.products.get("p") is not None
            read[number] += 1

    readers = [threading.Thread(target=read_often, args=(number,)) for number in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(30)
    assert read == [500] * 8
    assert waiter.is_alive(), "nothing was written yet"
    db.products.update("p", {"price": 2})
    waiter.join(30)
    assert seen == ["p"]


def test_many_threads_write_and_read_their_own_writes(db: kappa_core.Kappa) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            things = db.collection("things")
            for round in range(50):
                made = things.create({"thread": number, "round": round})
                assert things.get(made["id"]) == made
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert db.collection("things").count() == 400


def test_threads_that_read_much_at_once_get_what_each_asked_for(db: kappa_core.Kappa, rounds: int) -> None:
    """Threads that take turns have their documents read beside them, into memory that is used again: an answer must not
    come to another thread, and none may hold what was left of the one before."""
    things = db.collection("things")
    batch = db.batch()
    for number in range(600):
        batch.create("things", {"id": f"{number:04}", "number": number, "text": "x" * number, f"name {number % 7}": [number]})
    batch.commit()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(rounds * 3):
                wanted = range(number, 600, number % 2 + 1)
                found = things.get_many([f"{one:04}" for one in wanted] + ["none"])
                assert found.pop() is None
                expected = [
                    {"id": f"{one:04}", "number": one, "text": "x" * one, f"name {one % 7}": [one]} for one in wanted
                ]
                assert found == expected
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not failures


def interrupted(tmp_path: Path, waiting: str) -> None:
    program = textwrap.dedent(
        f"""
        import sys, signal, kappa_core
        signal.signal(signal.SIGINT, signal.default_int_handler)
        db = kappa_core.open({str(tmp_path / "data")!r})
        try:
            print("waiting", flush=True)
            {waiting}
        except KeyboardInterrupt:
            db.products.create({{"id": "after", "title": "x", "price": 1}})
            print("interrupted", flush=True)
            db.close()
            sys.exit(7)
        print("not interrupted")
        """
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    assert (output, child.returncode) == ("interrupted\n", 7)
    with kappa_core.open(tmp_path / "data") as db:
        assert db.products.get("after") is not None


@pytest.mark.parametrize(
    "waiting",
    ["next(db.changes())", "kappa_core.histogram(2**63)", "for change in db.changes(): pass"],
    ids=["feed", "histogram", "loop over a feed"],
)
def test_control_c_ends_a_wait(waiting: str, tmp_path: Path) -> None:
    """A server that does not hear Ctrl-C is killed, and a killed one has work to do at the next start."""
    interrupted(tmp_path, waiting)


def test_control_c_without_a_handler_ends_the_program(tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import signal, kappa_core
        signal.signal(signal.SIGINT, signal.default_int_handler)
        db = kappa_core.open({str(tmp_path / "data")!r})
        print("waiting", flush=True)
        next(db.changes())
        """
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    with kappa_core.open(tmp_path / "data") as db:
        assert db.info()["recovery"] == [], "it was closed on the way out"


def test_a_signal_handler_that_raises_ends_the_wait_with_its_error(db: kappa_core.Kappa) -> None:
    class Alarm(Exception):
        pass

    def ring(number: int, frame: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Alarm):
            next(db.changes())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert db.products.count() == 0


def test_a_list_that_is_read_ahead_is_whole_in_every_thread(db: kappa_core.Kappa) -> None:
    """The next page is read by another thread: a page that came twice, or to somebody else, would be seen here."""
    numbers = db.collection("numbers", indexes=["n"])
    for start in range(0, 1000, 500):
        batch = db.batch()
        for number in range(start, start + 500):
            batch.create("numbers", {"n": number, "long": "x" * 1500})
        batch.commit()
    seen: list[list[int]] = []

    def walk(page_size: int) -> None:
        for _ in range(5):
            seen.append([one["n"] for one in numbers.list("n", page_size=page_size)])
            seen.append([one["n"] for one in numbers.list("n", page_size=page_size, reverse=True)][::-1])

    threads = [threading.Thread(target=walk, args=(size,)) for size in (3, 10, 33, 100, 250, 999, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 70
    assert all(one == list(range(1000)) for one in seen)
    assert [one["n"] for one in numbers.list("n", page_size=10, limit=95)] == list(range(95))


def test_a_list_ends_with_the_error_of_the_page_that_was_read_ahead() -> None:
    db = kappa_core.in_memory()
    for number in range(100):
        db.users.create({"n": number, "long": "x" * 15_000})
    users = db.users.list(page_size=10)
    seen = [next(users)["n"] for _ in range(15)]
    db.close()
    with pytest.raises(kappa_core.ClosedError):
        while True:
            seen.append(next(users)["n"])
    assert seen in (list(range(20)), list(range(30))), "what was read before the end may still come"
    assert next(users, None) is None


def test_control_c_ends_the_wait_of_one_who_takes_turns(tmp_path: Path) -> None:
    """Its read runs on a thread that hears no signal: the wait must end all the same, and the read come to nobody else."""
    steps = """
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGALRM, lambda number, frame: os.kill(os.getpid(), signal.SIGINT))
        for held in (None, "read", None):
            hold(held)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            try:
                read()
                raise AssertionError("the owner stands still")
            except KeyboardInterrupt:
                pass
        go_on()
        assert read() == prices
    """
    held_up.run(held_up.program(str(tmp_path / "data"), 3, steps))


def test_a_close_waits_for_those_who_take_turns(tmp_path: Path) -> None:
    """A server that is told to stop closes its database while its threads read: what they asked for they get, and the close
    comes to its end."""
    steps = """
        closing = threading.Thread(target=db.close)

        def close(number, frame):
            signal.signal(signal.SIGALRM, lambda number, frame: go_on())
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            closing.start()

        signal.signal(signal.SIGALRM, close)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert read() == prices
        ended(closing)
        try:
            read()
            raise AssertionError("it is closed")
        except kappa_core.ClosedError:
            pass
    """
    held_up.run(held_up.program(str(tmp_path / "data"), 3, steps))


def test_a_close_ends_though_nobody_answers_those_who_take_turns(tmp_path: Path) -> None:
    """Each call has a deadline: neither they nor the close may wait beyond it for a process that stands still."""
    steps = """
        closing = threading.Thread(target=db.close)
        signal.signal(signal.SIGALRM, lambda number, frame: closing.start())
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        read_on()
        ended(closing)
    """
    end = """
for other in others:
    ended(other)
assert seen == [kappa_core.UnavailableError] * ({others} + 1), seen
print("done", flush=True)
"""
    held_up.run(held_up.program(str(tmp_path / "data"), 3, steps, end, deadline=3))
