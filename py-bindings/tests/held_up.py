"""Programs with calls that wait for as long as they are to: for a process that owns the directory and stands still."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

OWNER = "import sys, kappa_core; db = kappa_core.open(sys.argv[1], mode='owner'); print(flush=True); sys.stdin.read()"

BEGINNING = """
import atexit, os, signal, subprocess, sys, threading, warnings, kappa_core
warnings.simplefilter("ignore")
owner = subprocess.Popen([sys.executable, "-c", {owner!r}, {path!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
atexit.register(owner.kill)
owner.stdout.readline()
db = kappa_core.open({path!r}, mode="client", deadline={deadline})
prices = list(range(40))
ids = [db.products.create({{"title": "x", "price": price}})["id"] for price in prices]

def read():
    return [one["price"] for one in db.products.get_many(ids)]

class Alarm(Exception):
    pass

def ring(number, frame):
    raise Alarm

def ended(thread):
    thread.join(30)
    assert not thread.is_alive()

def read_on():
    try:
        seen.append(read())
    except kappa_core.KappaError as error:
        seen.append(type(error))

seen = []
others = [threading.Thread(target=read_on) for _ in range({others})]
os.kill(owner.pid, signal.SIGSTOP)
os.waitpid(owner.pid, os.WUNTRACED)
for other in others:
    other.start()
# While this waits, and until it is told to stop, the others come to wait too.
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    read()
    raise AssertionError("the owner stands still")
except Alarm:
    pass

def hold(name):
    kappa_core._kappa_core._hold(name)

def go_on():
    hold(None)
    os.kill(owner.pid, signal.SIGCONT)
"""

END = """
for other in others:
    ended(other)
assert seen == [prices] * {others}
owner.stdin.close()
assert owner.wait(30) == 0
print("done", flush=True)
"""


def program(path: str, others: int, steps: str, end: str = END, deadline: int = 60) -> list[str]:
    """A program that does ``steps`` while so many other threads wait for a large answer, which they get in the end."""
    beginning = BEGINNING.format(owner=OWNER, path=path, others=others, deadline=deadline)
    return [sys.executable, "-c", beginning + textwrap.dedent(steps) + end.format(others=others)]


def run(command: list[str]) -> None:
    """Runs such a program to its end, which has a bound."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=60)
    finally:
        # Whatever else it has started, also what stands still.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert (process.returncode, output) == (0, "done\n"), errors
