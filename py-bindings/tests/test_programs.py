"""The programs that newcomers copy run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import kappa_core

ROOT = Path(__file__).parents[2]


def output(arguments: list[str], cwd: Path) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_first_steps_say_what_those_in_rust_say(tmp_path: Path) -> None:
    said = output([str(ROOT / "examples" / "python" / "first_steps.py"), "data"], tmp_path)
    said = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", said)
    said = re.sub(r"\b4294967\d+\b", "VERSION", said)
    counts = re.search(r"\[[\d, ]+\]", said)
    assert counts is not None
    assert sum(map(int, counts[0].strip("[]").split(", "))) == 20_000
    assert said.replace(counts[0], "COUNTS").splitlines() == [
        'created {"id":"ID","title":"Mate","price":12.5}',
        'now {"id":"ID","title":"Mate","price":13}, version VERSION after VERSION',
        "1 product(s)",
        'order of ana: {"id":"ID","user":"ana","total":30}',
        'order of ana: {"id":"ID","user":"ana","total":10}',
        "created ID in orders",
        "created ID in orders",
        "created ID in orders",
        "a die thrown 20 000 times: COUNTS",
    ]


def test_the_programs_of_the_readme_run(tmp_path: Path) -> None:
    files = [ROOT / "README.md", ROOT / "py-bindings" / "README.md"]
    texts = [file.read_text(encoding="utf-8") for file in files]
    programs = [re.findall(r"```python\n(.*?)```", text, re.DOTALL) for text in texts]
    assert [len(found) for found in programs] == [2, 2]
    for program in sum(programs, []):
        assert "Mate" in output(["-c", program], tmp_path)


def test_a_server_is_asked_as_a_directory_is(server: str) -> None:
    with kappa_core.connect(server, token="secret") as db:
        changes = db.changes(start="oldest")
        db.users.create({"id": "ana", "big": 2**64})
        assert next(iter(changes))["document"] == {"id": "ana", "big": 2**64}
        assert db.info()["durability"] == "synced"
    with pytest.raises(kappa_core.ClosedError):
        db.users.get("ana")
    with pytest.raises(kappa_core.InvalidInputError):
        kappa_core.connect("no url")
    with pytest.raises(kappa_core.UnsupportedError):
        kappa_core.connect("https://127.0.0.1:1")
    with pytest.raises(kappa_core.UnavailableError):
        kappa_core.connect("http://127.0.0.1:1", deadline=0.5)
