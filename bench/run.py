"""The command: ``python bench/run.py`` measures farexec beside its rivals; see README.md."""

import sys

from farexec_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
