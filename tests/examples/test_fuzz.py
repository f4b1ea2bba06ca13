"""The fuzzer finds what is wrong, and finds nothing wrong in a short round over every target."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_examples import EXAMPLES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals there that come after a time")

SEED, NUM_INPUTS = 20_260, 1_500


@pytest.fixture(scope="module")
def fuzz() -> Iterator[Any]:
    sys.path.insert(0, str(EXAMPLES / "benchmarks"))
    try:
        import fuzz
    finally:
        sys.path.remove(str(EXAMPLES / "benchmarks"))
    return fuzz


@pytest.fixture(scope="module")
def targets(fuzz: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return fuzz.targets(tmp_path_factory.mktemp("fuzz"))


def target(fuzz: Any, read: Any, **changes: Any) -> Any:
    return fuzz.Target("planted", lambda rng: bytes([rng.randrange(10)]), read, ("planted",), **changes)


def test_a_short_round_finds_nothing(fuzz: Any, targets: list[Any]) -> None:
    whole, refused = sum(one.weight for one in targets), 0
    for one in targets:
        one.prepare()
        count = fuzz.fuzz(one, SEED, range(max(10, round(NUM_INPUTS * one.weight / whole))))
        assert not count.finds, f"python examples/benchmarks/fuzz.py --only '{one.name}' --seed {SEED} shows it"
        refused += count.outcomes[fuzz.REFUSED]
    assert refused > NUM_INPUTS / 2


def unlucky(made: bytes) -> bool:
    return made[0] == 3


def raises_key_error(made: bytes) -> str:
    return {0: "read"}[0] if not unlucky(made) else {}["planted"]


def names_nothing(made: bytes) -> str:
    if unlucky(made):
        raise ValueError("invalid literal")
    return "read"


def takes_memory(made: bytes) -> str:
    return "read" if not unlucky(made) else str(len(bytes(range(256)) * 2**19))  # 128 MiB


@pytest.mark.parametrize("read", [raises_key_error, names_nothing, takes_memory])
def test_what_is_wrong_is_found(fuzz: Any, read: Any) -> None:
    one, numbers = target(fuzz, read), range(60)
    found = fuzz.fuzz(one, SEED, numbers)
    unlucky_ones = [number for number in numbers if unlucky(one.make(fuzz.stream(one, SEED, number)))]
    assert unlucky_ones
    assert set(found.finds) <= set(unlucky_ones)
    assert list(found.finds) == (unlucky_ones if read is not takes_memory else unlucky_ones[:1]), "peaks only rise"


def test_an_error_that_names_the_file_is_a_refusal(fuzz: Any) -> None:
    def read(made: bytes) -> str:
        raise ValueError("'planted' is damaged.")

    found = fuzz.fuzz(target(fuzz, read), SEED, range(20))
    assert not found.finds
    assert found.outcomes == {fuzz.REFUSED: 20}


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_crash_is_found_and_the_inputs_after_it_are_read(fuzz: Any, tmp_path: Path) -> None:
    def crash(made: bytes) -> str:
        if unlucky(made):
            os.kill(os.getpid(), signal.SIGKILL)
        return fuzz.READ

    one = target(fuzz, crash)
    unlucky_ones = [number for number in range(30) if unlucky(one.make(fuzz.stream(one, SEED, number)))]
    found = fuzz.in_process(one, SEED, 0, 30)
    assert list(found.finds) == unlucky_ones
    assert found.number == 30
    fuzz.keep(tmp_path, one, SEED, found.finds)
    assert {path.read_bytes() for path in tmp_path.glob("*.input")} == {b"\3"}


def test_damage_is_the_same_for_the_same_seed(fuzz: Any, targets: list[Any]) -> None:
    for one in targets:
        made = [one.make(fuzz.stream(one, SEED, number)) for number in (0, 0, 1)]
        if isinstance(made[0], bytes):
            assert made[0] == made[1]
            assert made[0] != made[2]
