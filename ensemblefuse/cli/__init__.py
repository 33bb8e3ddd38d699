"""The command line: ``ensemblefuse demo | fit | evaluate | predict | report | card | inspect | cache``.

Importing this package imports argparse and little else, so that ``ensemblefuse --help`` answers at once; each command
imports what it needs when it runs.
"""

from ensemblefuse.cli._main import main

__all__ = ["main"]
