"""The scenarios that every language runs: the same calls must give the same answers everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from contract import FOLDER, call, expand, part_of, same, scenarios

import kappa_core

OTHERS = ("bad_input.json", "methods.json")
FILES = sorted(file.name for file in FOLDER.glob("*.json") if file.name not in OTHERS)
ALL = [
    (file, scenario)
    for file in FILES
    for scenario in scenarios(file)
    if "python" not in scenario.get("not_over", {})
]


each_scenario = pytest.mark.parametrize(("file", "scenario"), ALL, ids=[f"{file}: {one['name']}" for file, one in ALL])


@each_scenario
def test_scenario(file: str, scenario: dict[str, Any], open_database: Any, run: Any) -> None:
    play(file, scenario, open_database, run)


@each_scenario
def test_scenario_over_a_server(file: str, scenario: dict[str, Any], server: str, run: Any) -> None:
    if "remote" in scenario.get("not_over", {}):
        return

    async def connect() -> kappa_core.Kappa:
        return kappa_core.connect(server)

    play(file, scenario, connect, run)


def play(file: str, scenario: dict[str, Any], open_database: Any, run: Any) -> None:
    async def steps() -> None:
        assert set(scenario) <= {"name", "not_over", "steps"}, file
        db = await open_database()
        known: dict[str, Any] = {}
        for number, step in enumerate(scenario["steps"]):
            where = f"{file}, step {number}: {step}"
            assert set(step) <= {"name", "call", "with", "as", "gives", "equals", "fails"}, where
            arguments = expand(step.get("with", {}), known)
            if "fails" in step:
                with pytest.raises(kappa_core.KappaError) as failure:
                    await call(db, step["call"], arguments)
                assert failure.value.code == step["fails"], where
                continue
            answer = await call(db, step["call"], arguments)
            if "as" in step:
                known[step["as"]] = answer
            if "equals" in step:
                assert same(expand(step["equals"], known), answer), f"{where}, got {answer}"
            if "gives" in step:
                assert part_of(expand(step["gives"], known), answer), f"{where}, got {answer}"
        closed = db.close()
        if closed is not None:
            await closed

    run(steps())


def test_a_difference_is_found() -> None:
    """A runner that finds everything alike would let every scenario pass."""
    assert not same({"a": 1}, {"a": 1, "b": 2}) and part_of({"a": 1}, {"a": 1, "b": 2})
    assert not same(True, 1) and not same(1, "1") and not same(None, False) and same(1, 1.0)
    assert not part_of([{"a": 1}], [{"a": 1}, {"a": 1}]) and not part_of({"a": None}, {})
    assert not part_of({"a": {"b": 1}}, {"a": {"b": 2}})


def test_there_are_scenarios() -> None:
    assert len(ALL) >= 50
