"""``python -m ensemblefuse``: the command line."""

import sys

from ensemblefuse.cli import main

if __name__ == "__main__":
    sys.exit(main())
