"""Does every strategy of Lightning give the numbers of one process?

Trains small fits under each strategy, by gloo on the CPU, and compares what is left with one process: the records of
EasinessCallback, what selections choose and what is trained on then, the numbers that SELModule logs, the record of
`repeat_fit` after the first of its runs was interrupted, and what `StepwiseCompression` and `compare_selections` find.
A strategy that cannot run here is shown with the sentence in
which it was refused. Each training step takes the gradient over the whole data set, so that weights move, and do so
alike however many processes share the batches.

    python examples/benchmarks/strategies.py
    python examples/benchmarks/strategies.py --only "tensor parallel 1 x 2" --only "ddp, 3"
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.utils.data import DataLoader, Dataset

from lightning_easiness import (
    Ablation,
    Control,
    Curriculum,
    EasinessCallback,
    EasinessDataModule,
    EasinessRecord,
    ImportanceSampling,
    InfoBatch,
    Needs,
    OrderDP,
    RandomShare,
    Relabel,
    SampleEasinessTraining,
    Scores,
    Selection,
    SelectionState,
    SELModule,
    Undecided,
    compare_selections,
    repeat_fit,
)

NUM_EXAMPLES, NUM_CLASSES = 53, 4  # no number of processes divides it
EVENLY = 48  # which 1 to 4 processes divide: padding counts in the numbers that a module logs
EPOCHS, SEEDS = 4, (3, 4)
TOLERANCE = 1e-5
SIGMA2 = 0.3  # so that there are examples of all levels
TIME_LIMIT = 900  # seconds, of all fits of a strategy


class Strategy(NamedTuple):
    """A line of the table: options of the Trainer, and nodes, each of which torchrun starts, if there are any."""

    options: Callable[[], dict[str, Any]]
    nodes: int = 0


def sharded(data_parallel: int, tensor_parallel: int) -> Strategy:
    def options() -> dict[str, Any]:
        strategy = ModelParallelStrategy(data_parallel, tensor_parallel)
        return {"strategy": strategy, "devices": data_parallel * tensor_parallel}

    return Strategy(options)


def named(strategy: str, devices: int) -> Strategy:
    return Strategy(lambda: {"strategy": strategy, "devices": devices})


ONE = "one process"
STRATEGIES: dict[str, Strategy] = {
    ONE: named("auto", 1),
    "ddp, 2": named("ddp", 2),
    "ddp, 3": named("ddp", 3),
    "ddp_spawn, 2": named("ddp_spawn", 2),
    "two nodes of 2, torchrun": Strategy(lambda: {"strategy": "ddp", "devices": 2, "num_nodes": 2}, nodes=2),
    "FSDP2, 2 x 1": sharded(2, 1),
    "tensor parallel, 1 x 2": sharded(1, 2),
    "FSDP2 and tensor parallel, 2 x 2": sharded(2, 2),
    "fsdp, 2": named("fsdp", 2),
    "deepspeed, 2": named("deepspeed", 2),
}


# ------------------------------------------------------------------------------------------------------ what is trained


class Points(Dataset):
    """Points with a learnable class, and the index of each as the last input."""

    def __init__(self, size: int) -> None:
        x = torch.randn(size, 8, generator=torch.Generator().manual_seed(0))
        self.x = torch.cat([x, torch.arange(float(size)).unsqueeze(1)], 1)
        self.y = x[:, :NUM_CLASSES].argmax(1)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], int(self.y[index])


class Net(SELModule, LightningModule):
    """A small classifier whose layers are sharded as the strategy's mesh says."""

    def __init__(self, size: int = NUM_EXAMPLES, stops_at: int = -1) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, NUM_CLASSES))
        self.whole, self.stops_at = Points(size), stops_at
        self.is_sharded = False
        self.trained: list[list[int]] = []  # by epoch

    def configure_model(self) -> None:
        if self.device_mesh is None or self.is_sharded:  # Lightning may call it again
            return
        self.is_sharded = True
        shards, parts = self.device_mesh["data_parallel"], self.device_mesh["tensor_parallel"]
        if parts.size() > 1:
            parallelize_module(self.net, parts, {"0": ColwiseParallel(), "2": RowwiseParallel()})
        if shards.size() > 1:
            fully_shard(self.net, mesh=shards)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x[:, :8])

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == self.stops_at:
            raise InterruptedError("on purpose")
        self.trained.append([])

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        self.trained[-1] += x[:, 8].long().tolist()
        logits = self(x)
        loss = nn.functional.cross_entropy(self(self.whole.x), self.whole.y)
        losses = nn.functional.cross_entropy(logits, y, reduction="none")
        return loss + 0 * self.weighted_mean(losses) + 0 * self.sel(logits, y)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)


def loader(size: int = NUM_EXAMPLES) -> DataLoader:
    return DataLoader(Points(size), batch_size=64, shuffle=True)  # a step an epoch, whatever the processes


class Validated(LightningDataModule):
    """Loaders for training and validation."""

    def __init__(self, train: DataLoader, val: DataLoader) -> None:
        super().__init__()
        self.train, self.val = train, val

    def train_dataloader(self) -> DataLoader:
        return self.train

    def val_dataloader(self) -> DataLoader:
        return self.val


class LowestLoss(Selection):
    """A user's rule: more and more of the easiest examples at the current weights."""

    needs = Needs(every="epoch", passes=True)

    def select(self, state: SelectionState) -> Tensor:
        return state.observe()["loss"].argsort()[: 2 + 10 * state.epoch]


def made_scores() -> Scores:
    values = torch.arange(1.0, NUM_EXAMPLES + 1)
    return Scores(values, higher_is_easier=False, target=Points(NUM_EXAMPLES).y, name="mean_loss")


SELECTIONS: dict[str, Callable[[], Selection]] = {
    "Ablation": lambda: Ablation(made_scores(), 0.4),
    "Relabel": lambda: Relabel(made_scores(), 0.4),
    "SET": lambda: SampleEasinessTraining(early_epochs=1),
    "SET with weights": lambda: SampleEasinessTraining(early_epochs=1, others_share=0.4),
    "L-SET": lambda: SampleEasinessTraining(early_epochs=1, by="loss"),
    "SET online": lambda: SampleEasinessTraining(early_epochs=1, online=True, rescore_every_n_epochs=None),
    "SET per batch": lambda: SampleEasinessTraining(early_epochs=1, per="batch"),
    "lowest loss": lambda: LowestLoss(),
    "RandomShare": lambda: RandomShare(0.4, final_epochs=1),
    "InfoBatch": lambda: InfoBatch(0.6, early_epochs=1, final_epochs=1),
    "OrderDP": lambda: OrderDP(0.3, 0.7, early_epochs=1),
    "Undecided": lambda: Undecided(0.4, 0.8, early_epochs=1),
    "ImportanceSampling": lambda: ImportanceSampling(early_epochs=1),
    "Curriculum": lambda: Curriculum(made_scores(), 0.3, 3),
    "Control of InfoBatch": lambda: Control(InfoBatch(0.6, early_epochs=1)),
}


class Leave(Callback):
    """Leaves what a process saw in a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.selected: list[list[int]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        indices = getattr(getattr(trainer, "datamodule", None), "selected_indices", None)
        self.selected.append([] if indices is None else indices.tolist())

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if "seconds" not in name}
        left = {"selected": self.selected, "trained": pl_module.trained, "metrics": metrics}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(left, self.path.with_name(f"{self.path.name}-{trainer.global_rank}.pt"))


@contextmanager
def interrupted() -> Iterator[None]:
    """Expect the interruption of a training, which reaches the process that spawned others as text."""
    try:
        yield
    except InterruptedError:
        return
    except ProcessRaisedException as error:
        if "InterruptedError: on purpose" not in str(error):
            raise
        return
    raise AssertionError("nothing was interrupted")


class Fits:
    """The fits of one strategy, each of which leaves files in a folder."""

    def __init__(self, strategy: Strategy, folder: Path) -> None:
        self.strategy, self.folder = strategy, folder

    def trainer(self, callbacks: list[Callback] | None = None) -> Trainer:
        quiet: dict[str, Any] = {"enable_checkpointing": False, "enable_progress_bar": False, "logger": False}
        quiet |= {"enable_model_summary": False, "accelerator": "cpu", "max_epochs": EPOCHS}
        return Trainer(callbacks=callbacks, **quiet, **self.strategy.options())

    def fit(self, name: str, callbacks: list[Callback], size: int = NUM_EXAMPLES, **data: Any) -> None:
        seed_everything(5, verbose=False)
        self.trainer([*callbacks, Leave(self.folder / name)]).fit(Net(size), **data)

    def callback(self) -> None:
        options: dict[str, Any] = {"every_n_epochs": 1, "probe_batch_size": 8, "num_images": 0}
        self.fit("callback", [EasinessCallback(self.folder / "record", **options)], train_dataloaders=loader())
        observer = EasinessCallback(self.folder / "even", probabilities=True, **options)
        self.fit("even", [observer], EVENLY, train_dataloaders=loader(EVENLY))

    def datamodule(self) -> None:
        for name, make in SELECTIONS.items():
            observer = EasinessCallback(self.folder / name, probe=None, sigma2=SIGMA2, probe_batch_size=8, num_images=0)
            self.fit(f"datamodule {name}", [observer], datamodule=EasinessDataModule(loader(), make()))

    def selmodule(self) -> None:
        self.fit("selmodule", [], EVENLY, train_dataloaders=loader(EVENLY))

    def repeat_fit(self) -> None:
        arguments = {"seeds": SEEDS, "dirpath": self.folder / "repeats", "progress": False}
        with interrupted():
            repeat_fit(self.trainer, lambda: Net(stops_at=2), loader(), **arguments)
        repeat_fit(lambda seed: self.trainer([Leave(self.folder / f"seed {seed}")]), Net, loader(), **arguments)

    def experiments(self) -> None:
        """Make a comparison, which begins with a stepwise compression, and is stopped in its first run."""
        folder = self.folder / "comparison"
        data = Validated(loader(), loader(EVENLY))
        arguments = {
            "seeds": SEEDS[:1],
            "ratios": (0.3,),
            "methods": ("random", "easy", "stepwise"),
            "metric": "val_loss",
        }
        options: dict[str, Any] = {"dirpath": folder, "step": 0.15, "progress": False, **arguments}
        with interrupted():
            compare_selections(self.trainer, lambda: Net(stops_at=2), data, **options)
        rows = compare_selections(self.trainer, Net, data, **options)
        if rank_zero_only.rank == 0:
            table = {
                f"{row['method']} {row['ratio']}": [row["num_kept"], row["mean"], row["worst_class"]] for row in rows
            }
            torch.save(table, self.folder / "table.pt")


SCENARIOS = ("callback", "datamodule", "selmodule", "repeat_fit", "experiments")


# -------------------------------------------------------------------------------------------------------- what is left


def check_same_numbers(what: str, found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.float(), expected.float(), rtol=0, atol=TOLERANCE, equal_nan=True, msg=what)


def check_records(found: EasinessRecord, expected: EasinessRecord) -> None:
    assert (found.runs, found.epochs.tolist()) == (expected.runs, expected.epochs.tolist()), "runs and epochs"
    assert torch.equal(found.target, expected.target), "targets"
    for name in ("loss", "margin", "correct"):
        check_same_numbers(f"{name} of {found.series}", found.field(name), expected.field(name))


def left(folder: Path, name: str) -> list[dict[str, Any]]:
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob(f"{name}-*.pt"))]


def check_callback(folder: Path, one: Path) -> None:
    for name in ("record", "even"):
        for series in ("train-probe", "train-online"):
            check_records(*(EasinessRecord.load(place / name, series) for place in (folder, one)))
    online, epochs = EasinessRecord.load(folder / "record", "train-online"), left(folder, "callback")[0]["trained"]
    assert int(online.count.min()) >= 1, "each example is seen in each epoch"
    assert int(online.count.sum(-1).max()) < NUM_EXAMPLES + len(left(folder, "callback")), "and only padding twice"
    assert len(epochs) == EPOCHS
    averaged = [EasinessRecord.load(place / "even", "train-online").probabilities() for place in (folder, one)]
    torch.testing.assert_close(*averaged, rtol=0, atol=1e-3, msg="averaged probabilities")


def check_datamodule(folder: Path, one: Path) -> None:
    for name in SELECTIONS:
        (expected,), ranks = left(one, f"datamodule {name}"), left(folder, f"datamodule {name}")
        for rank in ranks:
            assert rank["selected"] == expected["selected"], f"{name} chooses other examples"
        for epoch, chosen in enumerate(expected["selected"]):
            trained, alone = (
                {index for rank in ran for index in rank["trained"][epoch]} for ran in (ranks, [expected])
            )
            assert trained == alone, f"{name} trains on other examples"
            assert trained == set(chosen) or not chosen, f"{name} does not train on what it chooses"


def check_selmodule(folder: Path, one: Path) -> None:
    expected = left(one, "selmodule")[0]["metrics"]
    assert len(expected) == 4, "the four numbers of SELModule"
    for rank in left(folder, "selmodule"):
        for name, value in expected.items():
            check_same_numbers(name, torch.tensor(rank["metrics"][name]), torch.tensor(value))


def check_repeat_fit(folder: Path, one: Path) -> None:
    check_records(*(EasinessRecord.load(place / "repeats") for place in (folder, one)))
    for seed, epochs in zip(SEEDS, (EPOCHS - 2, EPOCHS), strict=True):
        for rank in left(folder, f"seed {seed}"):
            assert len(rank["trained"]) == epochs, "what was trained before the interruption is trained again"


def check_experiments(folder: Path, one: Path) -> None:
    found, expected = (torch.load(place / "table.pt", weights_only=True) for place in (folder, one))
    assert found.keys() == expected.keys(), "rows of the comparison"
    for row, values in expected.items():
        check_same_numbers(f"{row} of the comparison", torch.tensor(found[row]), torch.tensor(values))


# -------------------------------------------------------------------------------------------------------- the processes


def commands(name: str, folder: Path, scenarios: list[str]) -> list[list[str]]:
    """Return the commands that start the fits of a strategy, one for each node."""
    script = [__file__, "--fit", name, str(folder), *scenarios]
    nodes = STRATEGIES[name].nodes
    if not nodes:
        return [[sys.executable, *script]]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(nodes), "--nproc-per-node", "2"]
    run += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    return [[*run, "--node-rank", str(node), *script] for node in range(nodes)]


def start(name: str, folder: Path, scenarios: list[str]) -> str | None:
    """Make fits to their end, and return what is said where one fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "GLOO_SOCKET_IFNAME": "lo"}
    options: dict[str, Any] = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    options["start_new_session"] = True  # to be ended with all that it starts
    started = [subprocess.Popen(one, **options) for one in commands(name, folder, scenarios)]
    said = []
    for process in started:
        try:
            said.append(process.communicate(timeout=TIME_LIMIT)[0])
        except subprocess.TimeoutExpired:
            for one in started:
                with suppress(ProcessLookupError):
                    os.killpg(one.pid, signal.SIGKILL)
            return f"HangError: not over after {TIME_LIMIT} s"
    return "\n".join(said) if any(process.returncode for process in started) else None


def first_error(said: str) -> str:
    """Return the first error at the end of a traceback; others follow where a process waits for one that has ended."""
    lines = [re.sub(r"^\[?rank\d+\]: ?", "", line) for line in said.splitlines()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    own = [line for line in errors if "gloo" not in line]
    return (own or errors or [said.strip()[-300:]])[0]


def outcomes(name: str, place: Path, scenarios: list[str], verbose: bool) -> Iterator[tuple[str, str]]:
    """Make the fits of a strategy; yield each scenario, or all of them together, and what came of it."""
    is_made = name == ONE and all((place / ONE / scenario / "done").exists() for scenario in scenarios)
    waiting = [] if is_made else list(scenarios)
    while waiting:
        folder = place / name
        for scenario in waiting:  # of an earlier call, which did not come to its end
            shutil.rmtree(folder / scenario, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        problem = start(name, folder, waiting)
        done = [scenario for scenario in waiting if (folder / scenario / "done").exists()]
        for scenario in done:
            yield scenario, comparison(scenario, folder / scenario, place / ONE / scenario)
        waiting = waiting[len(done) :]
        if problem is None:
            return
        if verbose:
            print(problem)
        if not any(folder.rglob("*.pt")) and not any(folder.rglob("*.safetensors")):
            yield "all", f"refused: {first_error(problem)}"
            return
        yield waiting.pop(0), f"FAILS: {first_error(problem)}"


def comparison(scenario: str, folder: Path, one: Path) -> str:
    if folder == one:
        return "what the others are compared with"
    try:
        globals()[f"check_{scenario}"](folder, one)
    except (AssertionError, ValueError, RuntimeError, KeyError) as error:
        return f"DIFFERS: {str(error).splitlines()[0]}"
    return "equal to one process"


def make_fits(name: str, place: str, scenarios: list[str]) -> None:
    """Do what a process of a strategy does."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for scenario in scenarios:
        folder = Path(place, scenario)
        folder.mkdir(exist_ok=True)
        getattr(Fits(STRATEGIES[name], folder), scenario)()
        (folder / "done").touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=STRATEGIES, help="a strategy; may be given again")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="of each strategy; may be given again")
    parser.add_argument("--verbose", action="store_true", help="print all that a fit says where it fails")
    parser.add_argument(
        "--folder", type=Path, help="keep what fits leave here, for which those of one process are reused"
    )
    parser.add_argument("--fit", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fit:
        make_fits(given.fit[0], given.fit[1], given.fit[2:])
        return
    names = [name for name in STRATEGIES if name == ONE or name in (given.only or STRATEGIES)]
    failed = False
    print("| strategy | what | outcome |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            for scenario, found in outcomes(
                name, given.folder or Path(place), given.scenario or list(SCENARIOS), given.verbose
            ):
                failed |= found.startswith(("FAILS", "DIFFERS"))
                print(f"| {name} | {scenario} | {found} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
