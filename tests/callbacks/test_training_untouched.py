"""Contract 1: weights, buffers, optimizer, losses and random streams are the same to the bit with and without."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.small import Net, Points, loader, streams, trainer


def fitted(module: Net, data: DataLoader, callbacks: list[Callback], **options: Any) -> dict[str, Any]:
    fit = trainer(callbacks=callbacks, **options)
    fit.fit(module, data, loader(Points(20, seed=5), shuffle=False))
    return {
        "weights": module.state_dict(),
        "optimizer": fit.optimizers[0].state_dict(),
        "losses": module.losses,
        "modes": [part.training for part in module.modules()],
        "streams": streams(),
    }


def assert_identical(left: Any, right: Any, where: str = "") -> None:
    if isinstance(left, Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_identical(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for position, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_identical(a, b, f"{where}/{position}")
    else:
        assert left == right, where


class OwnGenerator(Points):
    """Draws its augmentations from generators that it holds, one of them nested in a transform."""

    def __init__(self) -> None:
        super().__init__()
        self.torch_generator = torch.Generator().manual_seed(3)
        self.transforms = [{"noise": np.random.default_rng(4)}]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = super().__getitem__(index)
        noise = torch.rand(8, generator=self.torch_generator) + float(self.transforms[0]["noise"].random())
        return x + noise, y


class FrozenNorm(Net):
    """Keeps its batch norm in eval mode while it trains."""

    def on_train_epoch_start(self) -> None:
        self.net[1].eval()


CASES: dict[str, tuple[type[Net], Any, dict[str, Any]]] = {
    "plain": (Net, lambda: loader(), {}),
    "augmented": (Net, lambda: loader(Points(augment=True)), {}),
    "workers": (Net, lambda: loader(Points(augment=True), num_workers=2), {}),
    "persistent workers": (Net, lambda: loader(Points(augment=True), num_workers=2, persistent_workers=True), {}),
    "a generator of the loader's own": (Net, lambda: loader(generator=torch.Generator().manual_seed(7)), {}),
    "generators of the data set's own": (Net, lambda: loader(OwnGenerator()), {}),
    "accumulation and clipping": (Net, lambda: loader(), {"accumulate_grad_batches": 3, "gradient_clip_val": 0.1}),
    "bf16-mixed": (Net, lambda: loader(Points(augment=True)), {"precision": "bf16-mixed"}),
    "reload each epoch": (Net, lambda: loader(), {"reload_dataloaders_every_n_epochs": 1}),
    "frozen batch norm": (FrozenNorm, lambda: loader(), {}),
    "drop last, val within the epoch": (Net, lambda: loader(drop_last=True), {"val_check_interval": 0.5}),
}


@pytest.mark.parametrize("case", CASES)
def test_bit_identical_with_and_without(case: str, tmp_path: Path) -> None:
    make, make_loader, options = CASES[case]
    results = []
    for callbacks in ([], [EasinessCallback(tmp_path, at_steps=(0, 3), probe_batch_size=13)]):
        seed_everything(11, verbose=False)
        results.append(fitted(make("adam"), make_loader(), callbacks, **options))
    assert_identical(results[0], results[1])
    assert EasinessRecord.load(tmp_path).num_checkpoints >= 3, "the callback must have observed something"


def test_the_users_loader_and_data_set_stay_theirs(tmp_path: Path) -> None:
    dataset = Points()
    data = loader(dataset)
    before = dict(vars(data))

    class Look(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            assert trainer.train_dataloader is data
            assert isinstance(data, DataLoader)
            assert data.dataset is dataset

    trainer(callbacks=[Look(), EasinessCallback(tmp_path)]).fit(Net(), data)
    assert vars(data) == before
    assert type(data) is DataLoader


def test_worker_sees_the_users_data_set(tmp_path: Path) -> None:
    trainer(callbacks=[EasinessCallback(tmp_path)]).fit(
        Net(), loader(AsksItsWorker(), num_workers=1, worker_init_fn=check_worker)
    )


class AsksItsWorker(Points):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        info = torch.utils.data.get_worker_info()
        assert info is None or isinstance(info.dataset, AsksItsWorker)
        return super().__getitem__(index)


def check_worker(worker_id: int) -> None:
    assert isinstance(torch.utils.data.get_worker_info().dataset, AsksItsWorker)


class TestNoTrace:
    """Contract 7: nothing that was put on outlives the fit."""

    def traces(self, module: Net, fit: Any) -> list[Any]:
        hooks = [part for part in module.modules() if part._forward_hooks or part._forward_pre_hooks]
        return hooks + [name for name in vars(fit.strategy) if name == "process_dataloader"]

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_after_a_fit(self, tmp_path: Path, count: int) -> None:
        module = Net()
        fit = trainer(callbacks=[EasinessCallback(tmp_path / str(number)) for number in range(count)])
        fit.fit(module, loader())
        assert self.traces(module, fit) == []
        assert [EasinessRecord.load(tmp_path / str(number)).num_runs for number in range(count)] == [1] * count

    @pytest.mark.parametrize("count", [1, 2])
    def test_after_an_exception(self, tmp_path: Path, count: int) -> None:
        class Fails(Net):
            def training_step(self, batch: Any, batch_idx: int) -> Tensor:
                if batch_idx == 2:
                    raise ArithmeticError("on purpose")
                return super().training_step(batch, batch_idx)

        module = Fails()
        fit = trainer(callbacks=[EasinessCallback(tmp_path / str(number), at_steps=[1]) for number in range(count)])
        with pytest.raises(ArithmeticError, match="on purpose"):
            fit.fit(module, loader())
        assert self.traces(module, fit) == []
        assert EasinessRecord.load(tmp_path / "0").steps.tolist() == [1]

    def test_modes_and_stage_after_a_probe_that_fails(self, tmp_path: Path) -> None:
        class FailsInEval(Net):
            def forward(self, x: Tensor) -> Tensor:
                if not self.training:
                    raise ArithmeticError("on purpose")
                return super().forward(x)

        module = FailsInEval()
        with pytest.raises(ArithmeticError):
            trainer(callbacks=[EasinessCallback(tmp_path, every_n_epochs=0, at_steps=[3])]).fit(module, loader())
        assert all(part.training for part in module.modules())


def test_compiled_module(tmp_path: Path) -> None:
    pytest.importorskip("torch._dynamo")
    results = []
    for callbacks in ([], [EasinessCallback(tmp_path)]):
        seed_everything(3, verbose=False)
        torch._dynamo.reset()
        module = Net()
        module.net = torch.compile(module.net, backend="eager")
        results.append(fitted(module, loader(), callbacks))
    assert_identical(results[0], results[1])
    assert EasinessRecord.load(tmp_path, series="train-online").count.sum() == 2 * 53


def test_device_hooks_see_no_training_in_the_probe(tmp_path: Path) -> None:
    class Augments(Net):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            x, y = batch
            return (x + 100 if self.trainer.training else x), y

    module = Augments()
    trainer(callbacks=[EasinessCallback(tmp_path)]).fit(module, loader())
    module.eval()
    points = Points()
    expected = nn.functional.cross_entropy(module(points.x), points.y, reduction="none")
    torch.testing.assert_close(EasinessRecord.load(tmp_path).loss[0, -1], expected.detach())


def test_deep_copies_are_not_needed(tmp_path: Path) -> None:
    """A data set that cannot be copied is fine."""

    class Uncopyable(Points):
        def __deepcopy__(self, memo: Any) -> Dataset:
            raise copy.Error("on purpose")

    trainer(callbacks=[EasinessCallback(tmp_path)]).fit(Net(), loader(Uncopyable()))


def test_buffers_that_change_in_eval_mode_too(tmp_path: Path) -> None:
    class Counts(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x)

    calls = []
    for callbacks in ([], [EasinessCallback(tmp_path)]):
        module = Counts()
        trainer(callbacks=callbacks).fit(module, loader())
        calls.append(int(module.calls))
    assert calls[0] == calls[1] == 14
