"""Scores per example: the class `Scores`, and the registry of scores."""

from lightning_easiness.scores.definition import ScoreDefinition
from lightning_easiness.scores.scores import SCORES, Scores, get_score, register_score

__all__ = ["SCORES", "ScoreDefinition", "Scores", "get_score", "register_score"]
