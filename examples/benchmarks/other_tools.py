"""How long do other tools take for scores and selections, beside this one on equal input?

- datagnosis trains a network itself and scores its examples by the area under the margin, here with its Plugin and here
  with a Trainer and an EasinessCallback: the same network, data, batches and epochs, from the start of training to the
  scores.
- datacull selects by coverage (CCS) from scores, and so does `functional.ablate(..., sampling="stratified")`.

    python examples/benchmarks/other_tools.py
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from figures import Figure, Peer, Row, beside, installed, script
from lightning.pytorch.utilities.seed import isolate_rng
from measuring import Clock, clock_parser, in_turns
from models import NUM_CLASSES, Classifier, quiet_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.functional import ablate

FEATURES, HIDDEN, BATCH, EPOCHS = 32, 64, 64, 3
REMOVED, HARDEST, STRATA = 0.3, 0.1, 50


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, NUM_CLASSES))


def examples(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, FEATURES, generator=generator)
    return x, (x @ torch.randn(FEATURES, NUM_CLASSES, generator=generator)).argmax(1)


def scored(x: Tensor, y: Tensor) -> Tensor:
    """Train, and return the area under the margin."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = quiet_trainer(accelerator="cpu", max_epochs=EPOCHS, callbacks=[EasinessCallback(folder, probe=None)])
        trainer.fit(Classifier(network()), DataLoader(TensorDataset(x, y), BATCH, shuffle=True))
        return EasinessRecord.load(folder).score("area_under_margin").values


def scored_by_datagnosis(x: Tensor, y: Tensor) -> Any:
    """Train with the plugin of the same score, without caches of earlier calls."""
    from datagnosis.plugins.core.datahandler import DataHandler
    from datagnosis.plugins.generic.plugin_aum import AUMPlugin

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    options = {"lr": 0.01, "epochs": EPOCHS, "num_classes": NUM_CLASSES, "device": torch.device("cpu")}
    with tempfile.TemporaryDirectory() as folder:
        plugin = AUMPlugin(model, nn.CrossEntropyLoss(), optimizer, **options)
        return plugin.fit(DataHandler(x, y, BATCH), use_caches_if_exist=False, workspace=folder).scores


def selects_by_datacull(values: Tensor) -> Callable[[], object]:
    """Return the selection of as many examples by the same rule; its rate is the share that stays."""
    from datacull.data import DCDataset
    from datacull.methods.CCS import CCSDataLoader

    dataset = DCDataset(TensorDataset(values))
    loader = CCSDataLoader(dataset, pruning_rate=1 - REMOVED, beta=HARDEST, num_strata=STRATA, descending=True)
    return partial(loader.compute_subset, values.numpy())


def selects(values: Tensor) -> Callable[[], object]:
    return partial(
        ablate, values, REMOVED, "easy", "stratified", higher_is_easier=False, hardest_dropped=HARDEST,
        num_strata=STRATA,
    )  # fmt: skip


def compared(
    what: str, ours: Callable[[], object], theirs: Callable[[], object] | None, said: Peer, arguments: Any
) -> Row:
    """Return the row of two works in turn, after one call of each; of ours alone where the peer is not installed."""
    clock = Clock(arguments.clock)
    ours()
    if theirs is None:
        return Row(what, Figure.of([clock.time(ours) for _ in range(arguments.pairs)]), peer=said)
    theirs()
    pairs = in_turns(lambda: clock.time(ours), lambda: clock.time(theirs), arguments.pairs)
    return beside(what, pairs, said.name)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    x, y = examples(arguments.trained)
    module, said = installed("datagnosis", "datagnosis.plugins.generic.plugin_aum")
    what = f"area under the margin of {arguments.trained:,}, with the training of {EPOCHS} epochs"
    theirs = None if module is None else partial(scored_by_datagnosis, x, y)
    with quiet_datagnosis():
        yield compared(what, partial(scored, x, y), theirs, said, arguments)
    values = torch.rand(arguments.examples, generator=torch.Generator().manual_seed(0))
    module, said = installed("datacull", "datacull.methods.CCS")
    theirs = None if module is None else selects_by_datacull(values)
    what = f"selecting {100 * (1 - REMOVED):.0f} % of {arguments.examples:,} by coverage (CCS)"
    yield compared(what, selects(values), theirs, said, arguments)


@contextlib.contextmanager
def quiet_datagnosis() -> Iterator[None]:
    """Leave out what it logs, and put the random streams back, which it seeds."""
    with contextlib.suppress(ImportError):
        from loguru import logger

        logger.remove()
    with isolate_rng(), contextlib.redirect_stderr(io.StringIO()):
        yield


def parser() -> argparse.ArgumentParser:
    made = clock_parser(__doc__)
    made.add_argument("--trained", type=int, default=2_000, help="examples trained on; default: %(default)s")
    made.add_argument("--examples", type=int, default=1_000_000, help="selected from; default: %(default)s")
    made.add_argument("--pairs", type=int, default=3, help="default: %(default)s")
    return made


if __name__ == "__main__":
    script(parser(), rows)
