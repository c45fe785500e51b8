"""A web application under gunicorn, loaded before its workers are forked: the usual way to run one with less memory."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kappa_core

APPLICATION = """
import json, os, kappa_core
db = kappa_core.open("data")
hits = db.collection("hits")

def app(environ, start_response):
    hits.create({"pid": os.getpid()})
    body = json.dumps({"pid": os.getpid(), "hits": hits.count(), "owner": db.info()["owner_pid"]}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    pytest.importorskip("gunicorn")
    (tmp_path / "shop.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers=3", "--bind=127.0.0.1:0", "shop:app"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    address = next(line for line in lines if "Listening at" in line)
    yield process, int(address.rsplit(":", 1)[1].split(" ")[0].rstrip(")\n"))
    process.kill()
    process.wait(30)
    process.stderr.close()


def ask(port: int) -> dict[str, int]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/")
    answer: dict[str, int] = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def test_workers_that_were_forked_share_the_database(server: tuple[subprocess.Popen[str], int], tmp_path: Path) -> None:
    process, port = server
    answers = [ask(port) for _ in range(60)]
    assert [answer["hits"] for answer in answers] == list(range(1, 61))
    workers = {answer["pid"] for answer in answers}
    assert process.pid not in workers
    assert {answer["owner"] for answer in answers} == {process.pid}
    # A worker that dies, and one that takes its place.
    os.kill(next(iter(workers)), signal.SIGKILL)
    assert [ask(port)["hits"] for _ in range(20)] == list(range(61, 81))
    process.terminate()
    assert process.wait(30) == 0
    with kappa_core.open(tmp_path / "data", mode="owner") as db:
        assert db.collection("hits").count() == 80
