"""Tests of the scripts in examples/paper, which import each other by their plain names."""

import sys
from pathlib import Path

PAPER = Path(__file__).parents[2] / "examples" / "paper"
sys.path.insert(0, str(PAPER))
