"""What one language enqueues the other works off: a Python and a Node process on one data directory, with one payload.

Each side knows every payload by itself, and looks at what it is to run as well as at what comes back: an error of the
way there that the way back undoes would be seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import kappa_core

WITHIN = 60.0
"""What has not come back after so many seconds does not come."""
LOOK = 1.0
"""How often it is asked meanwhile whether Node still runs."""

PAYLOADS: dict[str, Any] = {
    "letters": "Größe, ÄÖÜß, Łódź, 東京, e\u0301",
    "emoji": "😀 👨‍👩‍👧 🇩🇪",
    "a NUL": "before\0behind",
    "quotes and backslashes": "\"double\" 'single' \\ \\\\ \\\" \\u0041 / </b>",
    "control characters": "\x01\b\t\n\f\r\x1f\x7f\u2028\u2029",
    "an empty text": "",
    "digits in a text": "9007199254740993",
    "nothing to count": 0,
    "a negative number": -7,
    "the largest safe number": 2**53 - 1,
    "the first unsafe number": 2**53,
    "one that a float would round": 2**53 + 1,
    "a negative one that a float would round": -(2**53) - 1,
    "the least of 64 bits": -(2**63),
    "beyond 64 bits": 2**64,
    "forty digits": -1234567890123456789012345678901234567891,
    "a tenth": 0.1,
    "a small float": 1e-7,
    "a large float": 1e21,
    "a negative float": -0.5,
    "the largest float": sys.float_info.max,
    "the smallest float": 5e-324,
    "yes": True,
    "no": False,
    "nothing": None,
    "an empty list": [],
    "an empty object": {},
    "nested": {
        "list": [1, [2, [3, {"deep": [None, True, "ä", 2**53 + 1, 0.1, {}, []]}]]],
        "object": {"a": {"b": {"c": -1}}},
    },
    "names": {
        "camelCase": 1,
        "snake_case": 2,
        "due_at": {"max_attempts": 3, "maxAttempts": 4},
        "Größe": 5,
        "東京": 6,
        "😀": 7,
        'a "b" \\ c': 8,
        "": 9,
    },
    "a text like a mark": {"text": "\uf8ffwhole:1", "number": 2**53 + 1},
    "a date of Node": "2024-02-29T12:30:00.123Z",
    "a date of Python": "2024-02-29T12:30:00.123456+02:00",
}
"""What either side sends, as the other one reads it. ``payloads.cjs`` has the same by the same names."""

GIVEN = {"a date of Python": datetime(2024, 2, 29, 12, 30, 0, 123456, timezone(timedelta(hours=2)))}
"""What this side gives where that is not what the other one reads."""


def same(found: object, name: str, where: str) -> None:
    if name not in PAYLOADS:
        raise kappa_core.Discard(f"Python does not know the payload {name}")
    # Python takes True for 1 and 1 for 1.0; their texts differ.
    if json.dumps(found, sort_keys=True) != json.dumps(PAYLOADS[name], sort_keys=True):
        raise kappa_core.Discard(f"{where} of {name}: {found!r}, and not {PAYLOADS[name]!r}")


def handle(task: kappa_core.RunningTask) -> Any:
    same(task.params, task.info["description"] or "", "what Python is to run")
    return task.params


def ended(db: kappa_core.Kappa, id: int, node: subprocess.Popen[str]) -> kappa_core.Task:
    """The task once it has ended; not waited for any longer when Node, which works it, is gone."""
    until = time.monotonic() + WITHIN
    while True:
        try:
            return db.tasks.wait(id, timeout=LOOK)
        except TimeoutError:
            assert node.poll() is None, f"Node ended by itself: {node.returncode}"
            assert time.monotonic() < until, f"task {id} has not ended within {WITHIN:.0f} s"


def send(db: kappa_core.Kappa, node: subprocess.Popen[str]) -> None:
    sent = {
        name: db.tasks.enqueue("for-node", GIVEN.get(name, payload), description=name, attempts=1)["id"]
        for name, payload in PAYLOADS.items()
    }
    for name, id in sent.items():
        task = ended(db, id, node)
        assert task["state"] == "completed" and task["worker"] == "node", f"{name}: {task}"
        same(task["params"], name, "what Python finds in its task")
        same(task["result"], name, "what Python gets back")


def leave(node: subprocess.Popen[str]) -> None:
    assert node.stdin is not None
    node.stdin.close()
    status = node.wait(WITHIN)
    assert status == 0, f"Node ended with {status}"


def exchange(directory: Path, script: str, owner: str) -> None:
    """Each side sends everything to the other one. One of them owns the directory, and the other one asks it."""
    mine: Literal["owner", "client"] = "owner" if owner == "python" else "client"
    others = "client" if owner == "python" else "owner"
    # npm's packages are found from where the script lies.
    command, folder = ["node", script, str(directory), others], Path(script).parent
    node = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    # Otherwise a Node that says nothing would be waited for without an end.
    late = threading.Timer(2 * WITHIN, node.kill)
    late.start()
    try:
        with kappa_core.open(directory, mode=mine, deadline=WITHIN) as db:
            assert db.info()["role"] == mine, f"Python is not the {mine}"
            with db.worker("for-python", handle, concurrency=4, name="python"):
                send(db, node)
                assert node.stdout is not None
                said = node.stdout.readline()
                assert said == "all came back\n", f"Node has not got everything back: {said!r}"
            # Who asks leaves before the owner does, so that nobody is left to wait for an owner.
            if owner == "python":
                leave(node)
        leave(node)
    finally:
        late.cancel()
        node.kill()
        node.wait()
    print(f"{len(PAYLOADS)} payloads came through each way; the owner was {owner}", flush=True)


if __name__ == "__main__":
    place, script = sys.argv[1:]
    directory = Path(place) / "data"
    # So that there is a directory, whoever comes first.
    kappa_core.open(directory).close()
    for owner in ("python", "node"):
        exchange(directory, script, owner)
