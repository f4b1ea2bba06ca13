"""Scores per example: the class `Scores`, and the registry of scores."""
