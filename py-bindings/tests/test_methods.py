"""The list of methods that every language has, against what this package offers."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from contract import FOLDER

import kappa_core
from kappa_core import aio

LIST: dict[str, Any] = json.loads((FOLDER / "methods.json").read_text(encoding="utf-8"))
MODULES = {"python": kappa_core, "aio": aio}
CELL = re.compile(r"(?:(\w+)\.)?(\w+)(?:\((\w+)\))?")


def cells(language: str) -> Iterator[tuple[str, str, str, str | None]]:
    """Each method of the list with the owner, the name and, where it is one, the parameter that it is here."""
    groups = LIST["groups"]
    for group in groups.values():
        shared = groups[group["also"]]["methods"] if "also" in group else {}
        for name, languages in {**shared, **group["methods"]}.items():
            here = languages.get(language, name)
            if isinstance(here, dict):
                assert here["not"], f"{name} is missing without a reason"
                continue
            for cell in here if isinstance(here, list) else [here]:
                found = CELL.fullmatch(cell)
                assert found, f"{name}: {cell}"
                yield name, found[1] or group["owners"][language], found[2], found[3]


def owner_of(module: ModuleType, owner: str) -> Any:
    return module if owner == "module" else getattr(module, owner, None) or getattr(kappa_core, owner)


def offered(owner: Any) -> set[str]:
    if not isinstance(owner, ModuleType):
        return {name for name in dir(owner) if not name.startswith("_")}
    return {name for name in owner.__all__ if inspect.isroutine(getattr(owner, name))}


@pytest.mark.parametrize("language", MODULES)
def test_every_method_is_in_the_list(language: str) -> None:
    """A method that only one language has is found by its users, long after."""
    module = MODULES[language]
    listed: dict[str, set[str]] = {}
    for name, owner, here, _ in cells(language):
        assert hasattr(owner_of(module, owner), here), f"{name}: {owner} has no {here}"
        listed.setdefault(owner, set()).add(here)
    assert len(listed) >= 8, listed
    for owner in listed:
        found = owner_of(module, owner)
        owners = [owner, *(base.__name__ for base in getattr(found, "__mro__", ()))]
        unlisted = offered(found).difference(*(listed.get(each, set()) for each in owners))
        assert not unlisted, f"{owner}: {sorted(unlisted)} are not in methods.json"


@pytest.mark.parametrize("language", MODULES)
def test_every_option_is_in_the_list(language: str) -> None:
    """What is a method elsewhere is a parameter here; one that is forgotten cannot be asked for."""
    listed: dict[tuple[str, str], set[str]] = {}
    for _, owner, here, parameter in cells(language):
        if parameter is not None:
            listed.setdefault((owner, here), set()).add(parameter)
    assert len(listed) >= 12, listed
    for (owner, here), parameters in listed.items():
        signature = inspect.signature(getattr(owner_of(MODULES[language], owner), here))
        optional = {name for name, one in signature.parameters.items() if one.default is not one.empty}
        assert optional == parameters, f"{owner}.{here}"


def test_both_ways_have_the_same_signatures() -> None:
    """A program that moves from one way to the other changes nothing but its awaits."""
    for owner in ("Kappa", "Collection", "Products", "Users", "Batch"):
        for name in sorted(offered(getattr(kappa_core, owner))):
            one, other = (getattr(getattr(module, owner), name) for module in MODULES.values())
            if inspect.isroutine(one):
                here, there = inspect.signature(one).parameters, inspect.signature(other).parameters
                assert [str(each) for each in here.values()] == [str(each) for each in there.values()], f"{owner}.{name}"
    for name in ("open", "in_memory", "connect", "histogram"):
        here, there = (inspect.signature(getattr(module, name)).parameters for module in MODULES.values())
        assert [str(each) for each in here.values()] == [str(each) for each in there.values()], name


def test_every_kind_of_error_is_in_the_list() -> None:
    codes = {kind.code for kind in kappa_core.KappaError.__subclasses__()}
    assert codes == LIST["errors"].keys()
