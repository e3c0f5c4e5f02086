"""What the tests of the command share."""

import json
import sys

import pytest

import shell
import watched

CODE = """
def add(a=1, b=2):
    print("adding")
    return a + b


def numbers(channel, count=3):
    for number in range(count):
        channel.send(number)


def letters():
    yield "a"
    yield "b"


def fail(item=None):
    raise ValueError("no luck with %r" % (item,))


def square(item):
    return item * item


def seventh_dies(item):
    import os

    if item == 7:
        os._exit(7)
    return item


def take_long(item):
    import time

    time.sleep(600)
"""


@pytest.fixture
def code(tmp_path):
    """A file with some functions."""
    path = tmp_path / "code.py"
    path.write_text(CODE)
    return str(path)


@pytest.fixture
def here():
    """A spec of a worker on this machine, in the interpreter that runs the tests."""
    return f"popen//python={sys.executable}"


@pytest.fixture
def watch(tmp_path, here):
    """Starts a program that is watched, or several; see `watched.Watched`."""
    started = []

    def start(here=here, **settings):
        started.append(watched.Watched(tmp_path, here, **settings))
        return started[-1]

    yield start
    for program in started:
        program.close()


def lines_of(result):
    """What a command wrote to its standard output, line by line."""
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def lines():
    return lines_of


@pytest.fixture
def run():
    """Runs the command with pipes; see `shell.run`."""
    return shell.run
