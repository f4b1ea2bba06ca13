"""Observation of examples: in the training forward, and in an evaluation pass at fixed weights."""
