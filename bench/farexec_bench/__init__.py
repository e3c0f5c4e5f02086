"""The harness behind ``bench/run.py``: `rows` says what is measured, `cases` how.

`runner` runs one case in its own process, `measuring` all of them in turns, `report` tells what came out.
"""
