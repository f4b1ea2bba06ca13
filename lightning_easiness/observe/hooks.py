"""Two hooks on a running fit: which examples a batch holds, and the logits that the training step computes for them.

Both are registered in `Callback.setup` or `on_fit_start` and removed when the fit ends, also by an exception.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_easiness._utils.lightning import StrategyHook, loads_training
from lightning_easiness.data.indexed_loader import IndexSource, follow, unfollow
from lightning_easiness.observe.endings import endings_of
from lightning_easiness.observe.forward import candidate_modules
from lightning_easiness.observe.kept import Kept, copied, kept, taken, version_of


class LoaderHook:
    """Follows the train loaders of a fit from the last call before one is iterated, `strategy.process_dataloader`."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.source = IndexSource()
        self._followed: list[Any] = []
        self._hook = StrategyHook(trainer, "process_dataloader", before=self._follow)

    def remove(self) -> None:
        """Remove the hook and stop following."""
        self._hook.remove()
        self._unfollow()
        self.source.clear()

    def _follow(self, dataloader: object) -> None:
        if self._trainer.training and loads_training(self._trainer):
            self._unfollow()  # a reload brings a new one
            follow(dataloader, self.source)
            self._followed.append(dataloader)

    def _unfollow(self) -> None:
        for loader in self._followed:
            unfollow(loader, self.source)
        self._followed.clear()


class LogitsHook:
    """Keeps the first prediction of each training step, from a forward hook on the module that computes it.

    It listens to the LightningModule itself, which `self(x)` calls, and to its only child with parameters, which
    `self.model(x)` calls. Where `module` names a submodule, it listens to that one alone. What is SMALL is copied at
    once, as the module or the step may write over it, and within a compiled graph, which does so in the next step,
    again at the step's end. Of the rest it is seen where they do, but within a compiled graph, which counts no version.
    """

    def __init__(self, pl_module: LightningModule, module: str | None, read: Callable[[Any], Any]) -> None:
        self._pl_module = pl_module
        self._read = read
        self._armed = False
        self.notes_endings = True  # until it is known how outputs are read
        self.position: int | None = None  # of what is read in a tuple, when it is known
        self.ending: Any = None  # of what was taken last
        self._seen: dict[str, Kept] = {}
        self._last: tuple[Any, int, Kept] | None = None  # what was read last, its version, and what was kept of it
        self._endings: dict[str, Any] = {}
        self._unread: Exception | None = None
        self._names = [module] if module is not None else candidate_modules(pl_module)
        self._handles: list[RemovableHandle] = [
            pl_module.get_submodule(name).register_forward_hook(self._hook(name)) for name in self._names
        ]

    def arm(self) -> None:
        """Start to listen: a training step begins."""
        self._seen.clear()
        self._last = None
        self._armed = True

    @property
    def has_seen(self) -> bool:
        """Whether the step has predicted anything yet."""
        return bool(self._seen)

    def take(self, size: int) -> Any:
        """Stop listening and return what the step predicted, detached; raise an error where it called no module."""
        self._armed = False
        seen, self._seen, self._last = self._seen, {}, None
        found = [name for name in self._names if name in seen]
        if not found:
            if self._unread is not None:
                raise self._unread
            names = " and ".join(repr(name) if name else "the LightningModule's forward" for name in self._names)
            raise RuntimeError(
                f"The training step gave EasinessCallback no output to read: it never called {names}. Pass the name"
                " of the submodule that returns the logits, module='net', or online=False; a call of .forward() itself"
                " is not seen, so call the module, self(x)."
            )
        name = next((name for name in found if _first_size(seen[name].prediction) == size), found[0])
        self.ending = self._endings.get(name)
        return taken(seen[name])

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._seen.clear()
        self._last = None

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            # only the first call counts: closures run again, and a wrapped module reports the training step's result;
            # and no call of a validation, which may follow on a step that was skipped
            if not self._armed or name in self._seen:
                return
            at_work = self._pl_module
            if not (at_work.training and torch.is_grad_enabled()) and not at_work.trainer.training:
                return
            try:
                prediction = self._read(output)
            except Exception as error:  # the user's logits_fn is for the output of one of the modules only
                self._unread = error
                return
            if prediction is not None:
                if torch.compiler.is_compiling():
                    self._seen[name] = Kept(copied(prediction), is_compiled=True)
                    return
                if self.notes_endings:
                    self._endings[name] = endings_of(prediction, module)
                self._seen[name] = self._kept(prediction)

        return keep

    def _kept(self, prediction: Any) -> Kept:
        """Return what to keep of a prediction; of one that a part of the module returned before, the same."""
        if not isinstance(prediction, Tensor):
            return kept(prediction, self.position)
        if self._last is not None:
            source, version, found = self._last
            if source() is prediction and version_of(prediction) == version:
                return found
        found = kept(prediction, None)
        self._last = (ref(prediction), version_of(prediction), found)
        return found


def _first_size(prediction: Any) -> int | None:
    if isinstance(prediction, tuple):
        return next((len(part) for part in prediction if isinstance(part, Tensor) and part.ndim), None)
    return prediction.shape[0] if isinstance(prediction, Tensor) and prediction.ndim > 0 else None
