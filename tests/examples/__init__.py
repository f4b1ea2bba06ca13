"""Tests of the scripts in examples and in examples/paper, which import each other by their plain names."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
PAPER = EXAMPLES / "paper"
sys.path[:0] = [str(PAPER), str(EXAMPLES)]
