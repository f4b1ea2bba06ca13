"""Names at the top of the package: all are there, and an old one says what to write instead."""

from __future__ import annotations

import importlib

import pytest

import lightning_easiness


@pytest.mark.parametrize("name", lightning_easiness.__all__)
def test_every_name_is_there_and_listed(name: str) -> None:
    assert getattr(lightning_easiness, name) is not None
    assert name in dir(lightning_easiness)


def test_every_name_with_a_home_is_public() -> None:
    named = {name for names in lightning_easiness._HOMES.values() for name in names}
    assert named == {*lightning_easiness.__all__} - {"__version__"}


@pytest.mark.parametrize("name", lightning_easiness._RENAMED)
def test_an_old_name_says_what_to_write_instead(name: str) -> None:
    with pytest.raises(ImportError) as caught:
        exec(f"from lightning_easiness import {name}")
    assert str(caught.value) == f"lightning_easiness has no {name!r} any more: {lightning_easiness._RENAMED[name]}."


def test_an_old_function_says_what_to_write_instead() -> None:
    with pytest.raises(ImportError) as caught:
        exec("from lightning_easiness.functional import judge_by_threshold")
    message = "lightning_easiness.functional has no 'judge_by_threshold' any more: use compare_to_thresholds."
    assert str(caught.value) == message


@pytest.mark.parametrize("module", lightning_easiness._MOVED)
def test_an_old_module_says_where_its_names_are(module: str) -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(f"lightning_easiness.{module}")
    statement = lightning_easiness._MOVED[module]
    assert str(caught.value) == f"lightning_easiness.{module} is no module any more: {statement}."
    exec(statement)


def test_a_name_that_never_was_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lightning_easiness.nothing
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'lightning_easiness\.nothing'"):
        importlib.import_module("lightning_easiness.nothing")
