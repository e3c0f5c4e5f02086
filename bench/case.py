"""One case in a process of its own: ``case.py CASE --library NAME`` prints its figures as JSON.

The harness starts it with the interpreter that the contender needs. It runs alone as well, for a profiler,
say.
"""

import sys

from farexec_bench.casework import main

if __name__ == "__main__":
    sys.exit(main())
