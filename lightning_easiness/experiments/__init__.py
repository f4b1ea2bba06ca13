"""Trainings of trainings: seeded repeats, stepwise compression, comparisons of selections, the threshold protocol."""
