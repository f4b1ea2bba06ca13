"""The parts of train_less.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "paper"))  # whose modules import each other by their plain names
