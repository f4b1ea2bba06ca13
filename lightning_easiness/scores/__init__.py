"""Scores per example: the class `Scores`, and the registry of scores."""

from lightning_easiness.scores import built_in as built_in  # registers them
from lightning_easiness.scores.definition import SCORES, ScoreDefinition, get_score, register_score
from lightning_easiness.scores.scores import Scores

__all__ = ["SCORES", "ScoreDefinition", "Scores", "get_score", "register_score"]
