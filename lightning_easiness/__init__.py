"""Which of my training examples are easy, hard, redundant or wrong? A plugin for PyTorch Lightning.

Names are loaded when they are first used, so that `import lightning_easiness.functional` loads torch alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_easiness.__about__ import __version__

if TYPE_CHECKING:
    from lightning_easiness.callbacks import EasinessCallback
    from lightning_easiness.data.observation import Observation
    from lightning_easiness.experiments.comparison import compare_selections
    from lightning_easiness.experiments.compression import StepwiseCompression
    from lightning_easiness.experiments.repeats import repeat_fit
    from lightning_easiness.experiments.threshold_runs import ThresholdExamples, ThresholdRuns
    from lightning_easiness.labels.find import find_label_issues
    from lightning_easiness.labels.grid import suspects_grid, write_suspects
    from lightning_easiness.labels.rules import Confident, Gap, Hardest, Mixture, Refine, Threshold
    from lightning_easiness.labels.table import LabelIssues
    from lightning_easiness.losses import SampleEasinessLoss, WeighsExamples
    from lightning_easiness.metrics import ExpectedSampleEasinessError, MatchingRate, MediumSampleRate
    from lightning_easiness.module import SELModule
    from lightning_easiness.observe.batch_reader import BatchReader
    from lightning_easiness.record.record import EasinessRecord
    from lightning_easiness.scores import ScoreDefinition, Scores, register_score
    from lightning_easiness.select.base import Selection, SelectionState
    from lightning_easiness.select.datamodule import EasinessDataModule
    from lightning_easiness.select.sample_easiness_training import SampleEasinessTraining
    from lightning_easiness.select.static import Ablation, Keep, Relabel
    from lightning_easiness.view.figures import draw_comparison, draw_curves, draw_data_map, draw_histogram
    from lightning_easiness.view.grids import averages_grid, image_grid, scores_grid, write_tensorboard
    from lightning_easiness.view.images import NoImageError, save_image

_HOMES = {
    "Ablation": "lightning_easiness.select.static",
    "BatchReader": "lightning_easiness.observe.batch_reader",
    "Confident": "lightning_easiness.labels.rules",
    "EasinessCallback": "lightning_easiness.callbacks",
    "EasinessDataModule": "lightning_easiness.select.datamodule",
    "EasinessRecord": "lightning_easiness.record.record",
    "ExpectedSampleEasinessError": "lightning_easiness.metrics",
    "Gap": "lightning_easiness.labels.rules",
    "Hardest": "lightning_easiness.labels.rules",
    "Keep": "lightning_easiness.select.static",
    "LabelIssues": "lightning_easiness.labels.table",
    "MatchingRate": "lightning_easiness.metrics",
    "MediumSampleRate": "lightning_easiness.metrics",
    "Mixture": "lightning_easiness.labels.rules",
    "NoImageError": "lightning_easiness.view.images",
    "Observation": "lightning_easiness.data.observation",
    "Refine": "lightning_easiness.labels.rules",
    "Relabel": "lightning_easiness.select.static",
    "SELModule": "lightning_easiness.module",
    "SampleEasinessLoss": "lightning_easiness.losses",
    "SampleEasinessTraining": "lightning_easiness.select.sample_easiness_training",
    "ScoreDefinition": "lightning_easiness.scores",
    "Scores": "lightning_easiness.scores",
    "Selection": "lightning_easiness.select.base",
    "SelectionState": "lightning_easiness.select.base",
    "StepwiseCompression": "lightning_easiness.experiments.compression",
    "Threshold": "lightning_easiness.labels.rules",
    "ThresholdExamples": "lightning_easiness.experiments.threshold_runs",
    "ThresholdRuns": "lightning_easiness.experiments.threshold_runs",
    "WeighsExamples": "lightning_easiness.losses",
    "averages_grid": "lightning_easiness.view.grids",
    "compare_selections": "lightning_easiness.experiments.comparison",
    "draw_comparison": "lightning_easiness.view.figures",
    "draw_curves": "lightning_easiness.view.figures",
    "draw_data_map": "lightning_easiness.view.figures",
    "draw_histogram": "lightning_easiness.view.figures",
    "find_label_issues": "lightning_easiness.labels.find",
    "image_grid": "lightning_easiness.view.grids",
    "register_score": "lightning_easiness.scores",
    "repeat_fit": "lightning_easiness.experiments.repeats",
    "save_image": "lightning_easiness.view.images",
    "scores_grid": "lightning_easiness.view.grids",
    "suspects_grid": "lightning_easiness.labels.grid",
    "write_suspects": "lightning_easiness.labels.grid",
    "write_tensorboard": "lightning_easiness.view.grids",
}

__all__ = [
    "Ablation",
    "BatchReader",
    "Confident",
    "EasinessCallback",
    "EasinessDataModule",
    "EasinessRecord",
    "ExpectedSampleEasinessError",
    "Gap",
    "Hardest",
    "Keep",
    "LabelIssues",
    "MatchingRate",
    "MediumSampleRate",
    "Mixture",
    "NoImageError",
    "Observation",
    "Refine",
    "Relabel",
    "SELModule",
    "SampleEasinessLoss",
    "SampleEasinessTraining",
    "ScoreDefinition",
    "Scores",
    "Selection",
    "SelectionState",
    "StepwiseCompression",
    "Threshold",
    "ThresholdExamples",
    "ThresholdRuns",
    "WeighsExamples",
    "__version__",
    "averages_grid",
    "compare_selections",
    "draw_comparison",
    "draw_curves",
    "draw_data_map",
    "draw_histogram",
    "find_label_issues",
    "image_grid",
    "register_score",
    "repeat_fit",
    "save_image",
    "scores_grid",
    "suspects_grid",
    "write_suspects",
    "write_tensorboard",
]


_RENAMED = {  # old name -> what to write instead
    "find_threshold_issues": "call find_label_issues(folder, rule=Threshold())",
}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        raise AttributeError(f"lightning_easiness has no {name!r} any more: {_RENAMED[name]}.")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
