"""What the tags mean, as a card in TensorBoard, and charts there that set training beside validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_easiness._utils.lightning import is_named, log_step
from lightning_easiness.callbacks.sinks import sink_of
from lightning_easiness.record.next_command import quoted

ABOUT = "easiness/about"
_LAYOUT_TAG = b"custom_scalars__config__"
_ABOUT = """\
# Which examples are easy, hard or wrong

`<series>` says what was observed: `train-online` the training steps of an epoch, with changing weights and augmented \
inputs; `train-probe` and `val-probe` an evaluation pass over all examples at fixed weights. Steps are those of the \
Trainer's own numbers.

| shown | means |
| --- | --- |
| `easiness/<series>/mean_loss`, `accuracy` | mean over all examples; `ModelCheckpoint` and `EarlyStopping` can \
monitor them by these names |
| `easiness/<series>/loss_spread` | standard deviation of the loss over examples: high while a few are much harder \
than the rest |
| `easiness-levels/<series>/easy`, `medium`, `hard` | fractions of the examples by sample easiness; they add up to 1 |
| `easiness-matching/<series>/hardest_with_previous`, `easiest_with_previous` | fraction of the hardest 10 % that were \
among them at the checkpoint before; 0.1 by chance, near 1 when the ranking is settled. The same for the easiest |
| `easiness-matching/<series>/hardest_with_last`, `easiest_with_last` | the same with the last checkpoint, written \
when the fit has ended |
| `easiness/selected_share`, `data_use` | where a selection is at work: the fraction that it keeps, and the fraction \
that was trained on |
| `easiness-selected-share/class_<k>` | the fraction that it keeps of a class |
| histograms `log10_loss`, `log10_sample_easiness` | powers of ten: -2 is 0.01. A second peak of the loss at the right \
end is made of hard or mislabelled examples. Sample easiness is shown only away from 0 and 1 |
| histogram `margin` | logit of the label minus the largest other logit; predicted wrong below 0 |
| histogram `el2n` | distance of the predicted probabilities from the label: 0 is easy, 1.4 certain and wrong |
| image `data_map` | confidence, the mean probability of the label, over its variability: easy at the top, ambiguous \
at the right, hard or mislabelled at the bottom |
| images `easiest`, `hardest`, `most_changed`, `suspects` | examples after an evaluation pass. "8, predicted 9 (0.93)" \
is the label, the predicted class and its probability. Suspects have the lowest mean margin over training |
| tab Custom Scalars | training beside validation, levels and matching rates, each in one chart |

What was recorded of each example is in `{folder}`. Next, in a shell:

    lightning-easiness issues {word}
    lightning-easiness report {word} --output report.html
"""

_CHARTS = {
    "loss, training beside validation": ["easiness/[^/]+/mean_loss$", ".*[vV]al.*[lL]oss.*"],
    "accuracy, training beside validation": ["easiness/[^/]+/accuracy$", ".*[vV]al.*[aA]cc.*"],
    "easy, medium and hard examples": ["easiness-levels/.*"],
    "matching rate of the hardest 10 %": ["easiness-matching/.*/hardest_with_.*"],
}


def explain(trainer: Any, folder: Path | None) -> None:
    """Write what the tags mean, and the layout of the charts, where a log does not have them yet."""
    text = _ABOUT.format(folder=folder, word="FOLDER" if folder is None else quoted(folder))
    for logger in trainer.loggers:
        sink = sink_of(logger)
        is_board = is_named(logger, "TensorBoardLogger")
        written = _written(logger) if is_board else b""
        if sink.text is not None and ABOUT.encode() not in written:
            sink.text(ABOUT, text, log_step(trainer))
        # a run has one layout, the latest: the user's own is left alone
        if is_board and _LAYOUT_TAG not in written:
            lines = {name: ["Multiline", tags] for name, tags in _CHARTS.items()}
            logger.experiment.add_custom_scalars({"Easiness": lines})


def _written(logger: Any) -> bytes:
    """Return the log so far: little, but for a fit that is resumed in its folder."""
    logger.experiment.flush()
    return b"".join(path.read_bytes() for path in Path(logger.experiment.log_dir).glob("events.out.tfevents.*"))
