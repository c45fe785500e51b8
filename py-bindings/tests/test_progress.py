"""Bars are for terminals: whoever reads standard error from a file gets none."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios

import pytest

import kappa_core

PROGRAM = """
import asyncio, sys, threading
import kappa_core
from kappa_core import aio

if sys.argv[2] == "none":
    sys.modules["tqdm"] = None  # As where it is not installed.
drawn = threading.Event()
write = sys.stderr.write

def written(text):
    if "active" in text:
        drawn.set()
    return write(text)

sys.stderr.write = written

def work(task):
    task.progress(0.5)
    # So long as the bar needs to be seen; where there is none, so long as one would have come.
    drawn.wait(float(sys.argv[3]))
    return "done"

def blocking():
    with kappa_core.in_memory() as db, db.worker("work", work):
        print(db.tasks.wait(db.tasks.enqueue("work")["id"], progress=True)["result"])

async def awaited():
    async with await aio.in_memory() as db, db.worker("work", work):
        task = await db.tasks.enqueue("work")
        print((await db.tasks.wait(task["id"], progress=True))["result"])

blocking() if sys.argv[1] == "sync" else asyncio.run(awaited())
"""


def drawn(way: str, tqdm: str, on_a_terminal: bool) -> str:
    """What a program that waits has written to standard error."""
    ours, theirs = pty.openpty() if on_a_terminal else os.pipe()
    if on_a_terminal:
        termios.tcsetwinsize(theirs, (24, 80))
    shows = on_a_terminal and tqdm == "installed"
    command = [sys.executable, "-c", PROGRAM, way, tqdm, "60" if shows else "1.5"]
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment
    ) as process:
        os.close(theirs)
        written = b""
        try:
            while part := os.read(ours, 4096):
                written += part
        except OSError:
            pass  # A terminal whose other side is closed.
        said, _ = process.communicate(timeout=60)
    os.close(ours)
    assert (process.returncode, said) == (0, "done\n"), written
    return written.decode()


@pytest.mark.parametrize("way", ["sync", "aio"])
def test_a_terminal_shows_how_far_a_task_is(way: str) -> None:
    assert "work 1024 active" in drawn(way, "installed", True)


@pytest.mark.parametrize("way", ["sync", "aio"])
def test_nobody_else_is_shown_anything(way: str) -> None:
    assert drawn(way, "installed", False) == ""
    assert drawn(way, "none", True) == ""


def test_a_wait_that_shows_ends_as_any_other(db: kappa_core.Kappa) -> None:
    task = db.tasks.enqueue("nobody")
    with pytest.raises(TimeoutError):
        db.tasks.wait(task["id"], timeout=0.3, progress=True)
    with pytest.raises(kappa_core.NotFoundError):
        db.tasks.wait(7, progress=True)
    db.tasks.cancel(task["id"])
    assert db.tasks.wait(task["id"], timeout=60, progress=True)["state"] == "cancelled"
