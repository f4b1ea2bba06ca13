"""Which of my training examples are easy, hard, redundant or mislabelled? A plugin for PyTorch Lightning.

Names are loaded when they are first used, so that `import lightning_easiness.functional` loads torch alone.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

from lightning_easiness.__about__ import __version__

if TYPE_CHECKING:
    from lightning_easiness.callbacks import EasinessCallback
    from lightning_easiness.data.observation import Observation
    from lightning_easiness.experiments.comparison import compare_selections
    from lightning_easiness.experiments.compression import StepwiseCompression
    from lightning_easiness.experiments.repeats import repeat_fit
    from lightning_easiness.experiments.threshold_runs import ThresholdExamples, ThresholdRuns
    from lightning_easiness.labels.counted import Contradicted, HeldOut
    from lightning_easiness.labels.find import find_label_issues
    from lightning_easiness.labels.grid import suspects_grid, write_suspects
    from lightning_easiness.labels.rules import Confident, Gap, Hardest, Mixture, Refine, Threshold
    from lightning_easiness.labels.table import LabelIssues
    from lightning_easiness.losses import SampleEasinessLoss, SampleWeightedLoss, WeighsExamples
    from lightning_easiness.metrics import ExpectedSampleEasinessError, MatchingRate, MediumSampleRate
    from lightning_easiness.module import SELModule
    from lightning_easiness.observe.batch_reader import BatchReader
    from lightning_easiness.record.matching_curves import MatchingCurves, matching_curves, matching_with_end
    from lightning_easiness.record.networks import MatchingMatrix, compare_networks
    from lightning_easiness.record.patterns import PatternSweep, sweep_pattern
    from lightning_easiness.record.probes import ProbeAgreement, cheapest_probe, compare_probes
    from lightning_easiness.record.record import EasinessRecord
    from lightning_easiness.scores import ScoreDefinition, Scores, register_score
    from lightning_easiness.select.align import AlignPrune
    from lightning_easiness.select.base import Needs, Selected, Selection, SelectionState
    from lightning_easiness.select.batch_loss import BatchLoss
    from lightning_easiness.select.by_loss import ImportanceSampling, InfoBatch, OrderDP, Undecided
    from lightning_easiness.select.curriculum import Curriculum
    from lightning_easiness.select.datamodule import EasinessDataModule
    from lightning_easiness.select.level_counts import LevelCounts
    from lightning_easiness.select.random import Control, RandomShare
    from lightning_easiness.select.repb import RePB
    from lightning_easiness.select.sample_easiness_training import SampleEasinessTraining
    from lightning_easiness.select.static import Ablation, Keep, Relabel
    from lightning_easiness.view.bands import draw_bands
    from lightning_easiness.view.comparison import draw_comparison
    from lightning_easiness.view.figures import draw_curves, draw_histogram
    from lightning_easiness.view.grids import averages_grid, image_grid, scores_grid
    from lightning_easiness.view.image_grid import ImageGrid
    from lightning_easiness.view.images import NoImageError, save_image
    from lightning_easiness.view.levels import draw_levels
    from lightning_easiness.view.map_figure import draw_data_map
    from lightning_easiness.view.matching_curves import draw_matching_curves
    from lightning_easiness.view.networks import draw_networks
    from lightning_easiness.view.patterns import draw_patterns
    from lightning_easiness.view.report.report import Report
    from lightning_easiness.view.tensorboard import write_tensorboard

_HOMES = {  # module -> the names that it has
    "callbacks": ("EasinessCallback",),
    "data.observation": ("Observation",),
    "experiments.comparison": ("compare_selections",),
    "experiments.compression": ("StepwiseCompression",),
    "experiments.repeats": ("repeat_fit",),
    "experiments.threshold_runs": ("ThresholdExamples", "ThresholdRuns"),
    "labels.counted": ("Contradicted", "HeldOut"),
    "labels.find": ("find_label_issues",),
    "labels.grid": ("suspects_grid", "write_suspects"),
    "labels.rules": ("Confident", "Gap", "Hardest", "Mixture", "Refine", "Threshold"),
    "labels.table": ("LabelIssues",),
    "losses": ("SampleEasinessLoss", "SampleWeightedLoss", "WeighsExamples"),
    "metrics": ("ExpectedSampleEasinessError", "MatchingRate", "MediumSampleRate"),
    "module": ("SELModule",),
    "observe.batch_reader": ("BatchReader",),
    "record.matching_curves": ("MatchingCurves", "matching_curves", "matching_with_end"),
    "record.probes": ("ProbeAgreement", "cheapest_probe", "compare_probes"),
    "record.networks": ("MatchingMatrix", "compare_networks"),
    "record.patterns": ("PatternSweep", "sweep_pattern"),
    "record.record": ("EasinessRecord",),
    "scores": ("ScoreDefinition", "Scores", "register_score"),
    "select.base": ("Needs", "Selected", "Selection", "SelectionState"),
    "select.align": ("AlignPrune",),
    "select.batch_loss": ("BatchLoss",),
    "select.by_loss": ("ImportanceSampling", "InfoBatch", "OrderDP", "Undecided"),
    "select.curriculum": ("Curriculum",),
    "select.repb": ("RePB",),
    "select.datamodule": ("EasinessDataModule",),
    "select.level_counts": ("LevelCounts",),
    "select.random": ("Control", "RandomShare"),
    "select.sample_easiness_training": ("SampleEasinessTraining",),
    "select.static": ("Ablation", "Keep", "Relabel"),
    "view.bands": ("draw_bands",),
    "view.comparison": ("draw_comparison",),
    "view.figures": ("draw_curves", "draw_histogram"),
    "view.levels": ("draw_levels",),
    "view.grids": ("averages_grid", "image_grid", "scores_grid"),
    "view.image_grid": ("ImageGrid",),
    "view.images": ("NoImageError", "save_image"),
    "view.map_figure": ("draw_data_map",),
    "view.matching_curves": ("draw_matching_curves",),
    "view.networks": ("draw_networks",),
    "view.patterns": ("draw_patterns",),
    "view.report.report": ("Report",),
    "view.tensorboard": ("write_tensorboard",),
}

__all__ = [
    "Ablation",
    "AlignPrune",
    "BatchLoss",
    "BatchReader",
    "Confident",
    "Contradicted",
    "Control",
    "Curriculum",
    "EasinessCallback",
    "EasinessDataModule",
    "EasinessRecord",
    "ExpectedSampleEasinessError",
    "Gap",
    "Hardest",
    "HeldOut",
    "ImageGrid",
    "ImportanceSampling",
    "InfoBatch",
    "Keep",
    "LabelIssues",
    "LevelCounts",
    "MatchingCurves",
    "MatchingMatrix",
    "MatchingRate",
    "MediumSampleRate",
    "Mixture",
    "Needs",
    "NoImageError",
    "Observation",
    "OrderDP",
    "PatternSweep",
    "ProbeAgreement",
    "RandomShare",
    "RePB",
    "Refine",
    "Relabel",
    "Report",
    "SELModule",
    "SampleEasinessLoss",
    "SampleEasinessTraining",
    "SampleWeightedLoss",
    "ScoreDefinition",
    "Scores",
    "Selected",
    "Selection",
    "SelectionState",
    "StepwiseCompression",
    "Threshold",
    "ThresholdExamples",
    "ThresholdRuns",
    "Undecided",
    "WeighsExamples",
    "__version__",
    "averages_grid",
    "cheapest_probe",
    "compare_networks",
    "compare_probes",
    "compare_selections",
    "draw_bands",
    "draw_comparison",
    "draw_curves",
    "draw_data_map",
    "draw_histogram",
    "draw_levels",
    "draw_matching_curves",
    "draw_networks",
    "draw_patterns",
    "find_label_issues",
    "image_grid",
    "matching_curves",
    "matching_with_end",
    "register_score",
    "repeat_fit",
    "save_image",
    "scores_grid",
    "suspects_grid",
    "sweep_pattern",
    "write_suspects",
    "write_tensorboard",
]

_RENAMED = {  # old name -> what to write instead
    "NoPictureError": "use NoImageError",
    "averaged_sheet": "use averages_grid",
    "draw_course": "use draw_curves",
    "find_threshold_issues": "call find_label_issues(folder, rule=Threshold())",
    "picture_sheet": "use image_grid",
    "save_picture": "use save_image",
    "scores_sheet": "use scores_grid",
    "suspects_sheet": "use suspects_grid",
}
_MOVED = {  # old module -> where its names are
    "compression": "from lightning_easiness import StepwiseCompression, compare_selections, draw_comparison",
    "datamodule": "from lightning_easiness import EasinessDataModule",
    "figures": "from lightning_easiness import draw_histogram, draw_curves, draw_data_map",
    "label_issues": "from lightning_easiness import find_label_issues, LabelIssues",
    "label_views": "from lightning_easiness import suspects_grid, write_suspects",
    "repeats": "from lightning_easiness import repeat_fit",
    "selection": "from lightning_easiness import Selection, SelectionState",
    "selections": "from lightning_easiness import Ablation, Keep, Relabel",
    "threshold_runs": "from lightning_easiness import ThresholdRuns",
    "views": "from lightning_easiness import image_grid, scores_grid, averages_grid, save_image, write_tensorboard",
}


class _MovedModules(MetaPathFinder):
    """Says what to write instead of the import of a module that is gone; asked last, when nobody else finds it."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        package, _, module = fullname.rpartition(".")
        if package == __name__ and module in _MOVED:
            raise ModuleNotFoundError(f"{fullname} is no module any more: {_MOVED[module]}.", name=fullname)


sys.meta_path.append(_MovedModules())


def __getattr__(name: str) -> Any:
    if name in _RENAMED:  # an ImportError passes `from ... import`, which swallows an AttributeError
        raise ImportError(f"lightning_easiness has no {name!r} any more: {_RENAMED[name]}.")
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
