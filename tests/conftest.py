"""Fixtures that all tests of the Python package share."""

import os

import pytest

import farexec


@pytest.fixture
def group():
    """A group without gateways, terminated at the end."""
    with farexec.Group() as made:
        yield made


@pytest.fixture
def gateway(group):
    """A gateway to an interpreter on this machine."""
    return group.makegateway()


@pytest.fixture
def open_descriptors():
    """A function that returns the numbers of this process's open descriptors."""
    return lambda: set(os.listdir("/proc/self/fd"))
