"""What the tests of faults share: the seed of what is random."""

import os
import random

import pytest


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, help="repeat what was random in a run before")
    parser.addoption("--faults", type=int, default=12, metavar="N", help="how many random faults are tried (default: %(default)s)")


def pytest_configure(config):
    if config.getoption("--seed") is None:
        config.option.seed = int.from_bytes(os.urandom(4), "little")


def pytest_report_header(config):
    return f"faults: {config.getoption('--faults')} at random, by --seed={config.getoption('--seed')}"


def pytest_generate_tests(metafunc):
    if "chance" in metafunc.fixturenames:
        first = metafunc.config.getoption("--seed")
        metafunc.parametrize("seed", [(first + number) % 2**32 for number in range(metafunc.config.getoption("--faults"))])


@pytest.fixture
def chance(seed):
    """What is random in a test, the same again for the same seed."""
    return random.Random(seed)
