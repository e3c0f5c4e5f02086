"""execnet's users, run on the shim: pytest-xdist with its own tests and plugins beside it, and remoto.

They run in an environment that has the shim in the place of execnet; `cargo xtask test --only clients` makes one. Sources come from PyPI.
"""

import os
import pathlib
import subprocess
import sys
import tarfile

import pytest

import execnet

# These change what a test run writes and when: what is tested runs as users run it.
UNWANTED = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPATH", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")


def pytest_configure():
    if not execnet.__version__.startswith("2.99"):
        raise pytest.UsageError(f"execnet {execnet.__version__} is installed here, and not the shim")


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in UNWANTED}


def run_pytest(folder, *arguments, timeout=280, python=sys.executable):
    """Runs pytest in a folder; returns the finished process."""
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """A function that gives the unpacked source distribution of a release on PyPI."""

    def get(name: str, version: str) -> pathlib.Path:
        folder = tmp_path_factory.mktemp(name)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "--dest", folder, f"{name}=={version}"], check=True, timeout=120)
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
        return unpacked

    return get
