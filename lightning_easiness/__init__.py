"""Which of my training examples are easy, hard, redundant or wrong? A plugin for PyTorch Lightning.

Names are loaded when they are first used, so that `import lightning_easiness.functional` loads torch alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_easiness.__about__ import __version__

if TYPE_CHECKING:
    from lightning_easiness.callbacks import EasinessCallback
    from lightning_easiness.compression import StepwiseCompression
    from lightning_easiness.datamodule import EasinessDataModule
    from lightning_easiness.record import EasinessRecord
    from lightning_easiness.repeats import repeat_fit
    from lightning_easiness.scores import Scores
    from lightning_easiness.selections import Ablation, Keep, Relabel, Selection

_HOMES = {
    "Ablation": "lightning_easiness.selections",
    "EasinessCallback": "lightning_easiness.callbacks",
    "EasinessDataModule": "lightning_easiness.datamodule",
    "EasinessRecord": "lightning_easiness.record",
    "Keep": "lightning_easiness.selections",
    "Relabel": "lightning_easiness.selections",
    "Scores": "lightning_easiness.scores",
    "Selection": "lightning_easiness.selections",
    "StepwiseCompression": "lightning_easiness.compression",
    "repeat_fit": "lightning_easiness.repeats",
}

__all__ = [
    "Ablation",
    "EasinessCallback",
    "EasinessDataModule",
    "EasinessRecord",
    "Keep",
    "Relabel",
    "Scores",
    "Selection",
    "StepwiseCompression",
    "__version__",
    "repeat_fit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
