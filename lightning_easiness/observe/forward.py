"""The user's module: which part of it returns the logits, and how its `forward` is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lightning.pytorch import Trainer
from torch import nn

from lightning_easiness._utils.lightning import callable_module, defines_forward


def candidate_modules(module: nn.Module) -> list[str]:
    """Return the names of the parts of a LightningModule that may return the logits, or raise a TypeError for none."""
    names = [""] if defines_forward(module) else []  # the likeliest; training_step may call a child instead
    whole = _parameters(module)
    parts = {name: _parameters(child) for name, child in module.named_children()}
    names += [name for name, parameters in parts.items() if whole and parameters == whole]
    if not names:
        children = [name for name, parameters in parts.items() if parameters]
        raise TypeError(
            f"{type(module).__name__} defines no forward() and has {len(children)} submodules with"
            f" parameters ({', '.join(children)}); pass EasinessCallback the name of the one that returns the"
            " logits, module='...'."
        )
    return names


def forward_signature(module: nn.Module, name: str | None) -> inspect.Signature:
    """Return the signature of the `forward` that an evaluation pass gives a batch's inputs to."""
    whole = name is None or defines_forward(module)
    return inspect.signature(module.get_submodule(candidate_modules(module)[0] if whole else name or "").forward)


def find_forward(trainer: Trainer, name: str | None) -> Callable[[Any], Any]:
    """Return a function of a batch's inputs that calls the LightningModule and returns what the named part returns."""
    module = trainer.lightning_module
    whole = callable_module(trainer, module)
    if name is None:
        name = candidate_modules(module)[0]
        part = module.get_submodule(name)
        return lambda inputs: call_module(part if name else whole, inputs, signature_of=part)
    part = module.get_submodule(name)
    if not defines_forward(module):
        return lambda inputs: _call_part(part, name, inputs, "defines no forward")

    def call_and_listen(inputs: Any) -> Any:
        # a part deep inside, as a head, does not take the batch's inputs: call the whole and listen to the part
        outputs: list[Any] = []
        handle = part.register_forward_hook(lambda module, args, output: outputs.append(output))
        try:
            call_module(whole, inputs, signature_of=module)
        finally:
            handle.remove()
        return outputs[0] if outputs else _call_part(part, name, inputs, f"has a forward that never calls {name!r}")

    return call_and_listen


class UncallablePartError(RuntimeError):
    """A named part of the module does not take a batch's inputs, and no forward leads to it."""


def _call_part(part: nn.Module, name: str, inputs: Any, why: str) -> Any:
    """Call a named part with a batch's inputs, which a part deep inside does not take."""
    try:
        return call_module(part, inputs)
    except Exception as error:
        raise UncallablePartError(
            f"The module {why}, and its part {name!r} does not take a batch's inputs ({type(error).__name__}: {error}),"
            " so an evaluation pass gets no logits: let a forward return them, or pass probe=None."
        ) from error


def call_module(module: nn.Module, inputs: Any, signature_of: nn.Module | None = None) -> Any:
    """Call a module as its `forward` says; `signature_of` has it where `module` is a wrapper.

    A mapping is passed as keywords where `forward` names one of its keys or takes any, a tuple or list as several
    arguments where it cannot be taken as one, and anything else as one argument.
    """
    if not isinstance(inputs, (Mapping, tuple, list)):
        return module(inputs)
    forward = inspect.signature((signature_of or module).forward)
    if isinstance(inputs, Mapping):
        return module(**inputs) if _takes_keywords(forward, inputs) else module(inputs)
    several = type(inputs) in (tuple, list) and not _binds(forward, [inputs]) and _binds(forward, inputs)
    return module(*inputs) if several else module(inputs)


def _parameters(module: nn.Module) -> set[int]:
    return {id(parameter) for parameter in module.parameters()}


def _takes_keywords(forward: inspect.Signature, names: Iterable[str]) -> bool:
    parameters = forward.parameters.values()
    keywords = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_POSITIONAL}
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters) or not keywords.isdisjoint(names)


def _binds(forward: inspect.Signature, arguments: Iterable[Any]) -> bool:
    try:
        forward.bind(*arguments)
    except TypeError:
        return False
    return True
