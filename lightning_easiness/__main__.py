"""`python -m lightning_easiness`: the command line."""

import sys

from lightning_easiness.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
