"""``python -m kappa_core worker app:queue``: runs the handlers that a module has gathered."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from .queue import Queue


def main() -> int:
    """Reads the command line and works until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m kappa_core")
    commands = parser.add_subparsers(required=True)
    worker = commands.add_parser("worker", help="run the handlers of a kappa_core.Queue")
    worker.add_argument("queue", metavar="MODULE:NAME", help="where the queue is, such as app:queue")
    arguments = parser.parse_args()
    module, _, name = arguments.queue.partition(":")
    sys.path.insert(0, os.getcwd())
    found = getattr(importlib.import_module(module), name or "queue", None)
    if not isinstance(found, Queue):
        parser.error(f"{arguments.queue} is no kappa_core.Queue")
    unfinished = found.run()
    if unfinished:
        print(f"kappa worker: {unfinished} tasks had not ended and were handed back", flush=True)
    return 0


if __name__ == "__main__":
    # Handlers that never return keep no process that was told to stop: their tasks were handed back.
    sys.exit(main())
