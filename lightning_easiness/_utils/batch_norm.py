"""Batch norm in a module, which refuses a batch of a single example."""

from __future__ import annotations

from torch import nn


def batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the parts of a module that normalise over their batch."""
    return [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
