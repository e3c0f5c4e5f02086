"""The command: ``python bench/instructions.py`` counts instructions and compares them with the baseline; see README.md."""

import sys

from farexec_bench.instructions import main

if __name__ == "__main__":
    sys.exit(main())
