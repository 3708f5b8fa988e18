"""`python -m micrograd_like` is the command `micrograd-like`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
