"""Random streams are given back as they were."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Subset

from lightning_easiness._utils.rng import OwnGenerators, get_rng_state, set_rng_state
from tests.small import streams

# ---------------------------------------------------------------------------------------------- random streams


def own_generators() -> list[Any]:
    return [
        torch.Generator().manual_seed(1),
        np.random.default_rng(2),
        np.random.Generator(np.random.MT19937(3)),
        np.random.RandomState(4),
        random.Random(5),
    ]


def draw(generator: Any) -> float:
    if isinstance(generator, torch.Generator):
        return float(torch.randn((), generator=generator))
    if isinstance(generator, random.Random):
        return generator.gauss(0, 1)
    return float(generator.standard_normal())


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize(
    "hold",
    [
        lambda generator: SimpleNamespace(noise=generator),
        lambda generator: SimpleNamespace(transforms=[nn.Identity(), {"noise": (generator,)}]),
        lambda generator: Subset(SimpleNamespace(deep=SimpleNamespace(noise=generator)), [0]),  # type: ignore[arg-type]
        lambda generator: {"a set": {SimpleNamespace}, "one": generator, "again": generator},
    ],
)
def test_own_generators_are_given_back(position: int, hold: Any) -> None:
    generator = own_generators()[position]
    draw(generator)  # a second number may wait in the generator
    data = hold(generator)
    first = []
    with OwnGenerators(data):
        first += [draw(generator) for _ in range(3)]
    second = []
    with pytest.raises(ArithmeticError), OwnGenerators(data):  # noqa: PT012
        second += [draw(generator) for _ in range(3)]
        raise ArithmeticError
    assert first == second == [draw(generator) for _ in range(3)]


def test_own_generators_of_data_that_holds_itself() -> None:
    data = SimpleNamespace(rows=list(range(10**6)), images=np.zeros(10**6), more=torch.zeros(10**6))
    data.me, data.noise = data, random.Random(1)
    with OwnGenerators(data):
        first = data.noise.random()
    assert first == data.noise.random()


def draws() -> list[float]:
    return [
        float(torch.rand(())),
        float(torch.randn(())),
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),  # noqa: NPY002
        float(np.random.randn()),  # noqa: NPY002
    ]


def test_streams_round_trip(tmp_path: Path) -> None:
    """Also through a checkpoint that holds no pickle, and where a second normal number waits in a stream."""
    before = get_rng_state()
    random.gauss(0, 1)
    np.random.randn()  # noqa: NPY002
    state = get_rng_state()
    at_once = streams()
    torch.save(state, tmp_path / "streams.pt")
    first = draws()
    set_rng_state(state)
    assert streams() == at_once
    assert draws() == first
    set_rng_state(torch.load(tmp_path / "streams.pt", weights_only=True))
    assert streams() == at_once
    assert draws() == first
    set_rng_state(before)


@pytest.mark.parametrize("kind", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64", "RandomState"])
def test_numpys_generators_fit_in_the_file(kind: str, tmp_path: Path) -> None:
    made = getattr(np.random, kind)(3)
    generator = made if kind == "RandomState" else np.random.Generator(made)
    generator.standard_normal(3)
    torch.save(OwnGenerators([generator]).get_states(), tmp_path / "states")
    drawn = generator.standard_normal(5).tolist()
    OwnGenerators([generator]).set_states(torch.load(tmp_path / "states", weights_only=True))
    assert generator.standard_normal(5).tolist() == drawn
