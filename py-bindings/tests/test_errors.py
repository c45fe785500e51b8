"""Each kind of error is a class of its own, which the standard library's handlers understand."""

from __future__ import annotations

import pickle

import pytest

import kappa_core
from kappa_core import _kappa_core, errors

STANDARD = {
    "invalid_input": ValueError,
    "not_found": KeyError,
    "already_exists": ValueError,
    "conflict": ValueError,
    "too_large": ValueError,
    "overloaded": TimeoutError,
    "storage_full": OSError,
    "unavailable": OSError,
    "expired": LookupError,
    "locked": OSError,
    "damaged": OSError,
    "unsupported": NotImplementedError,
    "internal": RuntimeError,
}


@pytest.mark.parametrize("code", _kappa_core._kinds())
def test_every_kind_has_a_class(code: str) -> None:
    """A kind without a class would be caught by nobody who names what they expect."""
    with pytest.raises(kappa_core.KappaError) as failure:
        _kappa_core._raise(code)
    error = failure.value
    assert type(error) is not kappa_core.KappaError
    assert type(error).__name__ == "".join(word.title() for word in code.split("_")) + "Error"
    assert getattr(kappa_core, type(error).__name__) is type(error)
    assert type(error).__name__ in errors.__all__
    assert error.code == type(error).code == code
    assert error.operation == "raise"
    assert error.context == {"code": code}
    assert str(error) == f"raise: asked for by a test code={code}"
    assert isinstance(error, STANDARD.get(code, Exception))
    assert isinstance(error, Exception) and not isinstance(error, (KeyboardInterrupt, SystemExit))


@pytest.mark.parametrize("code", _kappa_core._kinds())
def test_errors_travel_between_processes(code: str) -> None:
    """A worker that answers with an error must not break the pool it answers to."""
    with pytest.raises(kappa_core.KappaError) as failure:
        _kappa_core._raise(code)
    again = pickle.loads(pickle.dumps(failure.value))
    assert type(again) is type(failure.value)
    assert (str(again), again.code, again.operation, again.context) == (
        str(failure.value),
        code,
        "raise",
        {"code": code},
    )


def test_no_class_is_without_a_kind() -> None:
    codes = [kind.code for kind in kappa_core.KappaError.__subclasses__()]
    assert sorted(codes) == sorted(_kappa_core._kinds())
