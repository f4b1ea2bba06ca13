"""The user's objects: which part of a module returns the logits, what its `forward` takes, whose class a thing is."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from lightning_easiness._utils.lightning import defines_forward


def candidate_modules(module: nn.Module) -> list[str]:
    """Names the parts of a LightningModule that may return the logits, the likeliest first; "" is the module itself.

    These are the module itself where it defines `forward`, and each child that holds all of its parameters, which
    `training_step` may call directly.

    Raises:
        TypeError: there is none, as any of several children could be meant.
    """
    names = [""] if defines_forward(module) else []
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


def call_module(module: nn.Module, inputs: Any, signature_of: nn.Module | None = None) -> Any:
    """Calls a module as its `forward` says.

    A mapping is passed as keywords where `forward` names one of its keys or takes any, a tuple or list as several
    arguments where it cannot be taken as one, and anything else as one argument.

    Args:
        module: what is called.
        inputs: of a batch.
        signature_of: the module that has the user's `forward`, where `module` is a wrapper around it.
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
