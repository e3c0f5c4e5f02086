"""The harness behind ``bench/run.py``. `rows` says what is measured, `cases` how.

`runner` runs a case in a process of its own, `measuring` all of them in turns, and `report` tells what came out.
"""
