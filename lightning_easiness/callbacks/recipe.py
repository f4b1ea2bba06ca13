"""The recipe of a fit: what is trained and how, as plain JSON, from the Trainer and its module."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Subset, TensorDataset

from lightning_easiness._utils.lightning import configured_optimizers, is_named
from lightning_easiness._utils.plain import array_digest, class_name, digest, plain
from lightning_easiness.data.merged import MergedDataset
from lightning_easiness.data.subset import known_identity, num_examples, source, source_index, whole
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.scores import Scores

_MAKE_PARTS = ("setup", "configure_model", "prepare_data", "configure_sharded_model")
_MOST_LAYERS = 256
_AT_AN_END = 64  # examples
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_NO_HYPERPARAMETERS = ("num_workers", "pin_memory", "persistent_workers", "prefetch_factor")
_PLACE = r"_?(dir|folder|directory|root|path)s?$"
_NO_PLACES = re.compile(rf"(^|_|data){_PLACE}")  # of data, which are compared themselves
_NO_OUTPUTS = re.compile(rf"(^|_)(log|logs|save|out|output|work|run|runs|cache){_PLACE}")
_NO_SETTINGS = ("params", "param_names", "initial_lr")  # of a group of parameters
_NO_SCHEDULE = ("optimizer", "last_epoch", "verbose", "base_lrs")


def fit_recipe(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Return the recipe of a fit whose optimizers are made and not restored yet; the data are added by `data_recipe`.

    A schedule may change a learning rate before the first step: it is taken as it was given.
    """
    schedules = [_schedule(config) for config in trainer.lr_scheduler_configs]
    return {
        **_of_module(trainer, module),
        "optimizers": [_optimizer(one) for one in trainer.optimizers],
        "schedules": schedules,
        **_of_trainer(trainer),
    }


def known_recipe(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Return what is known of a fit's recipe without the fit, of a module and a Trainer that are thrown away.

    A module that makes its parts in `setup` or `configure_model` has them only in a fit; and an optimizer may need one.
    """
    known = {**_of_module(trainer, module), **_of_trainer(trainer)}
    makes_parts = any(getattr(type(module), hook) is not getattr(LightningModule, hook) for hook in _MAKE_PARTS)
    if makes_parts:
        del known["layers"], known["num_parameters"]
    if known["max_epochs"] is None:  # the fit sets it
        del known["max_epochs"]
    with suppress(Exception):  # a module may lack what it needs for them outside a fit
        optimizers, configs = configured_optimizers(trainer, module)
        known["optimizers"] = [_optimizer(one) for one in optimizers]
        known["schedules"] = [_schedule(config) for config in configs]
        for one in known["optimizers"]:  # a callback may freeze some
            one.pop("parameters", None)
    return known


def easiness_recipe(reader: BatchReader) -> dict[str, Any]:
    """Return how sample easiness is computed, where it is not the default: such runs are not to be averaged."""
    held = {"sigma2": reader.sigma2, "num_draws": reader.num_draws}
    found = {name: value for name, value in held.items() if value != getattr(BatchReader, name)}
    return {"sample_easiness": found} if found else {}


def data_recipe(trainer: Trainer) -> dict[str, Any]:
    """Return the part of the recipe that is known when the train loader is made: batches, selection and data."""
    return {**loader_recipe(trainer.train_dataloader), **datamodule_recipe(getattr(trainer, "datamodule", None))}


def loader_recipe(loader: Any) -> dict[str, Any]:
    """Return the part of the recipe that is known of a train loader."""
    size = getattr(loader, "batch_size", None)
    if size is None:
        size = getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    dataset = getattr(loader, "dataset", None)
    return {"batch_size": plain(size), "transform": _transform(dataset), "data": _data(dataset)}


def _of_module(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    of_module = {"module": class_name(module), "hyperparameters": _of_hparams(module, _NO_OUTPUTS)}
    if any(is_named(trainer.strategy, name) for name in ("FSDPStrategy", "DeepSpeedStrategy")):
        return of_module  # whose parameters are pieces, by the number of processes
    layers = {name.replace("_orig_mod.", ""): text for name, text in _layers(module)}
    if len(layers) > _MOST_LAYERS:
        layers = {"number": str(len(layers)), "digest": digest(repr(sorted(layers.items())).encode())}
    count = sum(parameter.numel() for parameter in module.parameters() if not is_lazy(parameter))
    return {**of_module, "layers": layers, "num_parameters": count}


def _is_hyperparameter(name: str) -> bool:
    return not name.startswith("_") and name not in _NO_HYPERPARAMETERS


def _layers(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the name and the description of each part with parameters of its own, or without parts."""
    for name, part in module.named_modules():
        own = {key: _shape(parameter) for key, parameter in part.named_parameters(recurse=False)}
        if own or (name and not any(True for _ in part.children())):
            yield name, f"{_described(part)}{''.join(f' {key} {shape}' for key, shape in own.items())}"


def _described(part: nn.Module) -> str:
    settings = part.extra_repr()
    if type(part).__module__ == "torch.nn.modules.loss":  # whose extra_repr is empty
        settings = ", ".join(f"{name}={value}" for name, value in vars(part).items() if _is_setting(name, value))
    return _ADDRESS.sub("", f"{type(part).__name__}({settings})")


def _is_setting(name: str, value: Any) -> bool:
    return not name.startswith("_") and name != "training" and isinstance(value, (bool, int, float, str))


def _shape(parameter: nn.Parameter) -> str:
    return "lazy" if is_lazy(parameter) else str(tuple(parameter.shape))


def _optimizer(optimizer: Any) -> dict[str, Any]:
    groups = [_group(group) for group in optimizer.param_groups]
    settings = groups[0] if len(groups) == 1 else {"groups": groups}
    return {"class": class_name(optimizer), **settings}


def _group(group: dict[str, Any]) -> dict[str, Any]:
    settings = {name: plain(value) for name, value in group.items() if name not in _NO_SETTINGS}
    if "initial_lr" in group:
        settings["lr"] = plain(group["initial_lr"])
    return settings


def _schedule(config: Any) -> dict[str, Any]:
    when = {name: plain(getattr(config, name, None)) for name in ("interval", "frequency", "monitor")}
    return {**_scheduler(config.scheduler), **when}


def _scheduler(scheduler: Any) -> dict[str, Any]:
    held = {name: plain(value) for name, value in vars(scheduler).items() if _is_of_schedule(name)}
    parts = vars(scheduler).get("_schedulers")
    if parts:  # of a chain or a sequence
        held["schedules"] = [_scheduler(part) for part in parts]
        held["milestones"] = plain(vars(scheduler).get("_milestones"))
    return {"class": class_name(scheduler), **held}


def _is_of_schedule(name: str) -> bool:
    return not name.startswith("_") and name not in _NO_SCHEDULE


def _of_trainer(trainer: Any) -> dict[str, Any]:
    limit, algorithm = trainer.limit_train_batches, trainer.gradient_clip_algorithm
    clips = trainer.gradient_clip_val is not None
    stops = [callback for callback in trainer.callbacks if is_named(callback, "EarlyStopping")]
    return {
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "limit_train_batches": None if isinstance(limit, float) and limit == 1 else limit,
        "overfit_batches": trainer.overfit_batches or None,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "gradient_clip_val": plain(trainer.gradient_clip_val),
        "gradient_clip_algorithm": str(getattr(algorithm, "value", algorithm)) if clips and algorithm else None,
        "precision": str(trainer.precision),
        "early_stopping": [{"monitor": one.monitor, "patience": one.patience, "mode": one.mode} for one in stops],
    }


def _data(dataset: Any) -> dict[str, Any]:
    if dataset is None or not hasattr(whole(dataset), "__len__"):
        return {}
    places, known = source_index(dataset), known_identity(whole(dataset))
    target = known.digest if known.target is None else known.target
    return {
        "num_examples": num_examples(dataset),
        "source_index": None if places is None else array_digest(places),
        "listed_targets": None if target is None else array_digest(target),
        "first_examples": _first_examples(whole(dataset)),
        **_parts(whole(dataset)),
    }


def _parts(dataset: Any) -> dict[str, Any]:
    """Return how many examples of each kind there are, where those of validation are trained on too."""
    if not isinstance(dataset, MergedDataset):
        return {}
    return {"parts": {"train": dataset.num_train, "val": dataset.num_val}}


def _transform(dataset: Any) -> str | None:
    """Return the description of what a data set does to its items, as those of torchvision have it."""
    transform = getattr(source(dataset), "transform", None)
    return None if transform is None else plain(" ".join(_ADDRESS.sub("", repr(transform)).split()))


def _first_examples(dataset: Any) -> list[str] | None:
    """Return digests of the first and last examples of tensors in memory: reading other data may not be harmless."""
    size, at_front = len(dataset), min(_AT_AN_END, len(dataset))
    index = torch.cat([torch.arange(at_front), torch.arange(max(at_front, size - _AT_AN_END), size)])
    while type(dataset) is Subset:
        index, dataset = torch.as_tensor(dataset.indices, dtype=torch.int64)[index], dataset.dataset
    return [array_digest(held[index]) for held in dataset.tensors] if type(dataset) is TensorDataset else None


def datamodule_recipe(datamodule: Any) -> dict[str, Any]:
    """Return the part of the recipe that is known of a datamodule, None for a loader alone.

    It is the hyperparameters of the user's, and what an EasinessDataModule trains on; its class is above this room.
    """
    if not is_named(datamodule, "EasinessDataModule"):
        own = _of_hparams(datamodule, _NO_PLACES)
        return {"data_hyperparameters": own, "selection": None, "hold_out": None, "train_on_val": None}
    selection = datamodule.selection
    of_selection = None if selection is None else _of_selection(selection)
    inner = datamodule_recipe(datamodule.datamodule)
    if datamodule.train_on_val:
        inner["train_on_val"] = True
    return {**inner, "selection": of_selection, "hold_out": plain(vars(datamodule).get("hold_out"))}


def _of_hparams(owner: Any, left_out: re.Pattern[str]) -> dict[str, Any]:
    """Return the hyperparameters that a module or datamodule saved, without those that change no training."""
    held = {name: value for name, value in dict(getattr(owner, "hparams", {})).items() if _is_hyperparameter(name)}
    return {name: plain(value) for name, value in held.items() if not left_out.search(name.lower())}


def _of_selection(selection: Any) -> dict[str, Any]:
    """Return the class and the arguments of a selection, as far as it keeps them under their names."""
    names = inspect.signature(type(selection).__init__).parameters
    held = {name: value for name, value in vars(selection).items() if name in names}
    return {"class": class_name(selection), **{name: _argument(value) for name, value in held.items()}}


def _argument(value: Any) -> Any:
    """Return an argument as plain JSON; scores by their digest, and another selection by its own arguments."""
    if isinstance(value, Scores):
        return _of_scores(value)
    return _of_selection(value) if is_named(value, "Selection") else plain(value)


def _of_scores(scores: Scores) -> dict[str, Any]:
    return {"class": "Scores", "name": scores.name, "values": array_digest(scores.values)}
