"""Matching rates of several networks, and of each with other runs of itself, against plain Python."""

from __future__ import annotations

import itertools
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch

from lightning_easiness import EasinessRecord, Scores, compare_networks
from lightning_easiness.functional._rng import generator
from lightning_easiness.record.networks import _splits
from tests.made_runs import make_scores, write_run

N, FRACTION, COUNT = 40, 0.25, 10
CHOICES = ("easy", "hard")


def write_network(folder: Path, name: str, num_runs: int, seed: int) -> EasinessRecord:
    """Runs of one network: a base of its own, and something new in each run."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.rand(N, generator=generator)
    for run in range(num_runs):
        loss = base + 0.5 * torch.rand(N, generator=generator)
        fields = {"loss": loss, "correct": loss < 0.8}
        write_run(folder / name, run, steps=(7,), num_examples=N, fields=fields)
    return EasinessRecord.load(folder / name)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EasinessRecord]:
    folder = tmp_path_factory.mktemp("networks")
    return {name: write_network(folder, name, 4, seed) for seed, name in enumerate(("mlp", "wide", "dense"))}


def set_of(record: EasinessRecord, runs: tuple[int, ...], which: str) -> set[int]:
    """The easy or hard examples by the number of right runs and then by the mean loss, in plain Python."""
    loss, correct = record.field("loss", 0).tolist(), record.field("correct", 0).tolist()
    keys = [(-sum(correct[run][i] for run in runs), fmean(loss[run][i] for run in runs)) for i in range(N)]
    order = sorted(range(N), key=lambda i: keys[i])
    return set(order[:COUNT] if which == "easy" else order[-COUNT:])


def every_split() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    pairs = list(itertools.combinations(range(4), 2))
    return [(pair, tuple(set(range(4)) - set(pair))) for pair in pairs if 0 in pair]


@pytest.mark.parametrize("which", CHOICES)
def test_each_element_is_the_mean_over_splits_of_the_rate_of_disjoint_groups(networks, which) -> None:
    matrix = compare_networks(networks, fraction=FRACTION, which=which, num_splits=40)
    assert (matrix.num_runs, matrix.num_splits, matrix.chance) == (2, 3, FRACTION)
    for (i, one), (j, other) in itertools.product(enumerate(networks.values()), repeat=2):
        rates = []
        for first, second in every_split():
            ways = [(first, second), (second, first)]
            rates.append(fmean(len(set_of(one, a, which) & set_of(other, b, which)) / COUNT for a, b in ways))
        assert matrix.rates[i, j].item() == pytest.approx(fmean(rates))
        assert matrix.spread[i, j].item() == pytest.approx(stdev(rates), abs=1e-6)


def test_the_chance_by_class_is_that_of_sets_drawn_within_classes(networks) -> None:
    matrix = compare_networks({name: record.score("mean_loss") for name, record in networks.items()}, fraction=FRACTION)
    target = networks["mlp"].target.tolist()
    one, other = (networks[name].score("mean_loss").easiest(FRACTION).tolist() for name in ("mlp", "dense"))
    expected = 0.0
    for label in set(target):
        here, there = (sum(target[i] == label for i in chosen) for chosen in (one, other))
        expected += here * there / target.count(label) / COUNT
    assert matrix.class_chance[0, 2].item() == pytest.approx(expected)
    assert matrix.class_chance.diagonal().isnan().all()
    splits = compare_networks(networks, fraction=FRACTION).class_chance
    assert torch.equal(splits, splits.T)
    assert 0.1 < splits.min() < splits.max() < 0.6


def test_a_network_agrees_with_itself_more_than_with_an_unrelated_one(networks) -> None:
    matrix = compare_networks(networks, fraction=FRACTION)
    assert matrix.rates.diagonal().min() > matrix.others.max()
    assert torch.equal(matrix.rates, matrix.rates.T)


def test_scores_alone_have_no_other_runs(networks) -> None:
    scores = {name: record.score("mean_loss") for name, record in networks.items()}
    matrix = compare_networks(scores, fraction=FRACTION, which="hard")
    hardest = [set(each.hardest(FRACTION).tolist()) for each in scores.values()]
    assert matrix.rates.diagonal().isnan().all()
    for i, j in itertools.permutations(range(3), 2):
        assert matrix.rates[i, j].item() == pytest.approx(len(hardest[i] & hardest[j]) / COUNT)
    assert matrix.spread.isnan().all()


def test_a_record_of_a_single_run_is_compared_as_a_whole(networks, tmp_path) -> None:
    matrix = compare_networks({**networks, "single": write_network(tmp_path, "single", 1, 0)}, fraction=FRACTION)
    assert matrix.rates.diagonal().isnan().all()
    assert matrix.rates[0, 3] > 0


def test_groups_are_as_large_as_the_smallest_record_allows(networks, tmp_path) -> None:
    matrix = compare_networks({**networks, "many": write_network(tmp_path, "many", 9, 5)}, fraction=FRACTION)
    assert matrix.num_runs == 2
    assert matrix.num_splits > 3
    assert not matrix.rates.isnan().any()


def write_places(folder: Path, num_runs: int) -> EasinessRecord:
    """Runs whose easiest examples say at which place they are: ten of their own each, alike in each network."""
    for place in range(num_runs):
        loss = torch.full((80,), 2.0).index_fill(0, torch.arange(10 * place, 10 * place + 10), 0.1)
        write_run(folder, place, steps=(7,), num_examples=80, fields={"loss": loss, "correct": loss < 1})
    return EasinessRecord.load(folder)


@pytest.mark.parametrize("numbers", [(4, 6), (6, 4), (5, 5), (2, 8), (4, 5, 7)])
def test_runs_at_the_same_place_are_never_compared(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    named = {f"net-{i}": write_places(tmp_path / str(i), number) for i, number in enumerate(numbers)}
    size = min(numbers) // 2
    matrix = compare_networks(named, "mean_loss", fraction=10 * size / 80, num_splits=40)
    assert matrix.rates.abs().max() == 0
    assert matrix.num_splits > 1 or min(numbers) == max(numbers) == 2


def test_the_spare_runs_of_a_larger_record_are_drawn_too() -> None:
    splits = _splits([4, 9], 2, 40, 0)
    assert {place for _, larger in splits for group in larger for place in group} == set(range(9))
    assert all(len(set(first) | set(second)) == 4 for split in splits for first, second in split)


@pytest.mark.parametrize("count", [2, 4, 5, 10])
def test_networks_of_equally_many_runs_are_split_by_one_permutation_each_time(count: int) -> None:
    """So that numbers that were published stay."""
    size, expected = count // 2, []
    for number in range(20):
        order = torch.randperm(count, generator=generator(3, number, count)).tolist()
        split = tuple(sorted([tuple(sorted(order[:size])), tuple(sorted(order[size : 2 * size]))]))
        expected += [] if (split, split, split) in expected else [(split, split, split)]
    assert _splits([count] * 3, size, 20, 3) == expected


def test_runs_under_two_names_are_refused(networks) -> None:
    with pytest.raises(ValueError, match=r"^Network 'mlp' and network 'again' both hold the run '.*', which matches "):
        compare_networks({**networks, "again": networks["mlp"]})
    with pytest.raises(ValueError, match=r"^Network 'a' and network 'b' both hold the run"):
        compare_networks({"a": networks["mlp"].select_runs([0, 1]), "b": networks["mlp"].select_runs([1, 2])})
    halves = {"a": networks["mlp"].select_runs([0, 1]), "b": networks["mlp"].select_runs([2, 3])}
    assert compare_networks(halves, fraction=FRACTION).num_runs == 1


def test_ties_that_are_shared_agree_by_chance_where_all_are_equal() -> None:
    constant = Scores(torch.zeros(N), higher_is_easier=True, name="count", tie_breaker=torch.arange(N))
    both = {"a": constant, "b": constant}
    assert compare_networks(both, fraction=FRACTION, ties="shared").rates[0, 1].item() == pytest.approx(FRACTION)
    assert compare_networks(both, fraction=FRACTION).rates[0, 1] == 1


def test_the_table_has_a_row_for_each_pair_and_brings_back_the_rates(networks, tmp_path) -> None:
    matrix = compare_networks(networks, fraction=FRACTION)
    table = matrix.to_pandas().reset_index()
    assert len(table) == 6
    row = table[(table.network == "mlp") & (table.other == "dense")].iloc[0]
    assert row.matching_rate == pytest.approx(matrix.rates[0, 2].item())
    assert row.chance == FRACTION
    matrix.to_csv(tmp_path / "matrix.csv")
    assert (tmp_path / "matrix.csv").read_text().startswith("network,other,matching_rate,spread,chance,class_chance\n")
    assert "groups of 2 runs" in str(matrix)
    assert "<table" in matrix._repr_html_()


def test_what_cannot_be_compared_is_refused_in_a_sentence(networks) -> None:
    score = networks["mlp"].score("count")
    with pytest.raises(TypeError, match=r"must be EasinessRecords, or all Scores, by name; got both\.$"):
        compare_networks({"a": score, "b": networks["mlp"]})
    with pytest.raises(TypeError, match=r"got str\.$"):
        compare_networks({"a": score, "b": "runs"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"two networks or more; got 1\.$"):
        compare_networks({"a": score})
    other = make_scores([0.0, 1.0])
    with pytest.raises(ValueError, match=r"^Network 'a' and network 'b' are not of the same data: .*in the same order"):
        compare_networks({"a": score, "b": other})
    with pytest.raises(ValueError, match=r"The `which` of compare_networks must be 'easy' or 'hard'; got 'medium'\.$"):
        compare_networks(networks, which="medium")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"The `num_splits` of compare_networks must be"):
        compare_networks(networks, num_splits=0)
