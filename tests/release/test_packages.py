"""What is handed out: wheels and the sdist, installed where nothing of the project is, and crates as a registry would get them."""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest

import interpreters

pytestmark = pytest.mark.timeout(900)

ROOT = pathlib.Path(__file__).parents[2]
SUPPORTED = (3, 10)

PROGRAM = """
import farexec, pathlib, sys
assert pathlib.Path(farexec.__file__).is_relative_to(sys.prefix), farexec.__file__
with farexec.Group(["popen"] * 2) as group:
    print(list(group.map("operator:neg", range(3))), {gateway._rinfo().worker for gateway in group})
"""


def run(*command, **options):
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1", **options.pop("env", {})}
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment, timeout=900, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    """What the one command of CONTRIBUTING.md builds: a wheel for every CPython from 3.10 on, and an sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "maturin", "build", "--release", "--sdist", "--out", folder, cwd=ROOT)
    return folder


def check_installed(python, distribution, folder):
    run(python, "-m", "venv", folder)
    run(folder / "bin/pip", "install", "--no-index", distribution)
    # From nowhere near the project, and with nothing but what is installed.
    assert run(folder / "bin/python", "-I", "-c", PROGRAM, cwd=folder) == "[0, -1, -2] {'native'}\n"
    command = folder / "bin/farexec"
    assert run(command, "run", "-c", "channel.send(2 + 2)", cwd=folder) == "4\n"
    assert run(command, "--version", cwd=folder).split()[0] == "farexec"


def test_a_wheel_works_where_nothing_else_is(python, dist, tmp_path):
    if interpreters.version_of(python) < SUPPORTED or "pypy" in python:
        pytest.skip("the package is for CPython from 3.10 on")
    (wheel,) = dist.glob("*.whl")
    assert "-cp310-abi3-manylinux_" in wheel.name
    check_installed(python, wheel, tmp_path / "clean")


def test_the_sdist_builds_without_the_repository(dist, tmp_path):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = [folder for folder in tmp_path.iterdir() if folder.is_dir()]
    for path in unpacked.rglob("*"):
        path.touch()  # or cargo would take what it built from the repository for what this builds to
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path / "wheel", unpacked, cwd=tmp_path)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    check_installed(sys.executable, wheel, tmp_path / "clean")


def test_versions_have_one_place(dist):
    (wheel,) = dist.glob("*.whl")
    told = run("cargo", "metadata", "--no-deps", "--format-version", "1", cwd=ROOT)
    versions = {part.split('"')[0] for part in told.split('"version":"')[1:]}
    assert versions == {wheel.name.split("-")[1]}
    places = [path for path in ROOT.glob("crates/*/Cargo.toml") if "version.workspace = true" not in path.read_text()]
    assert places == []


def test_a_registry_would_take_the_crates(tmp_path):
    assert shutil.which("cargo"), "crates are packaged by cargo"
    # Crates that were packaged before under the same version, and in the same place, would be taken for these: cargo unpacks them once. So
    # the place has a new name, and what has been built there is used all the same.
    built = tmp_path / "target"
    place = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    place.mkdir(parents=True, exist_ok=True)
    built.symlink_to(place)
    unpacked = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo") / "registry" / "src"
    before = set(unpacked.glob("-*"))
    try:
        run("cargo", "package", "--workspace", "--exclude", "xtask", "--allow-dirty", cwd=ROOT, env={"CARGO_TARGET_DIR": str(built)})
    finally:
        for folder in set(unpacked.glob("-*")) - before:
            shutil.rmtree(folder)
