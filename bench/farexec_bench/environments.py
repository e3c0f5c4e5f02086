"""The interpreters that run the cases: this one for farexec, an environment for each kind of rival.

What pip installs goes into a cache folder outside the tree and is kept for the next run. Only those environments are
made that the rows need.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from .machine import ROOT

REQUIREMENTS = {
    "execnet": ["execnet==2.1.2"],
    "rivals": ["mitogen==0.3.54", "mpire==2.10.2", "loky==3.7.0", "Pyro5==5.17", "rpyc==6.0.2"],
    "xdist": ["pytest==8.4.2", "pytest-xdist==3.8.0", "execnet==2.1.2", "numpy==2.2.6"],
}
"""What each environment that pip fills has in it, by the environment's name."""

SHIM = "shim"
"""The environment that is like `xdist`, but with our shim in the place of execnet, and the farexec that is measured."""

PROBE = """
import json, os, platform, sys
found = {"python": platform.python_version(), "implementation": platform.python_implementation()}
for name in sys.argv[1:]:
    try:
        module = __import__(name)
        found[name], found[name + " folder"] = module.__version__, os.path.dirname(module.__file__)
    except ImportError as error:
        found[name + " missing"] = str(error)
print(json.dumps(found))
"""

INSTALL_LIMIT = 300
"""Seconds that making an environment may take."""

PROBE_LIMIT = 30
"""Seconds that an interpreter may take to tell what it has."""


class EnvironmentProblem(Exception):
    """An interpreter is not there, or has not got what it should have."""


@dataclass
class Environments:
    """Interpreters by the name of their environment, and what they have in them."""

    interpreters: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # libraries, and why they cannot be had


def find(execnet: str | None, ours: str, names: Collection[str]) -> Environments:
    """Finds or makes the interpreters, and looks what they have.

    :param execnet: The interpreter of an environment with execnet, or None to make one.
    :param ours: The library that competes as farexec.
    :param names: The environments that are needed beside those of farexec and execnet.
    """
    found = Environments({"farexec": sys.executable, "execnet": execnet or made("execnet")})
    wanted = REQUIREMENTS["execnet"][0].partition("==")[2]
    theirs = probe(found.interpreters["execnet"], "execnet")
    if theirs.get("execnet") != wanted:
        has = theirs.get("execnet") or theirs["execnet missing"]
        raise EnvironmentProblem(f"{found.interpreters['execnet']} has to have execnet {wanted}: {has}")
    own = probe(found.interpreters["farexec"], "farexec")
    found.versions = {"execnet": wanted, "python": f"{own['implementation']} {own['python']}"}
    if theirs["python"] != own["python"]:
        found.versions["python of execnet"] = f"{theirs['implementation']} {theirs['python']}"
    needed = {*names, "xdist"} if SHIM in names else names
    for name, requirements in REQUIREMENTS.items():
        if name in needed and name not in found.interpreters:
            found.interpreters[name] = made(name)
            for requirement in requirements:
                library, _, version = requirement.partition("==")
                found.versions[library] = version
    if ours == "execnet":
        found.interpreters["farexec"] = found.interpreters["execnet"]
        if SHIM in names:
            found.interpreters[SHIM] = found.interpreters["xdist"]
    elif "farexec" in own:
        found.versions["farexec"] = own["farexec"]
        if SHIM in names:
            found.interpreters[SHIM] = with_shim(found.interpreters["xdist"], Path(own["farexec folder"]))
    else:
        found.missing["farexec"] = own["farexec missing"]
    return found


def made(name: str) -> str:
    """The interpreter of the environment `name` in the cache folder, made on the first use."""
    folder = cache_folder() / f"{name}-{sys.implementation.name}-{platform.python_version()}"
    interpreter = folder / "bin" / "python"
    complete = folder / "complete"
    requirements = REQUIREMENTS[name]
    if complete.is_file() and complete.read_text().split() == requirements and interpreter.exists():
        return str(interpreter)
    print(f"making an environment with {' '.join(requirements)} in {folder}", file=sys.stderr)
    try:
        venv.create(folder, clear=True, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnvironmentProblem(f"could not make {folder}: {error}") from error
    command = [
        str(interpreter),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        *requirements,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT, check=False)
    if done.returncode != 0:
        raise EnvironmentProblem(f"could not install {' '.join(requirements)}: {last_line(done.stderr)}")
    complete.write_text("\n".join(requirements))
    return str(interpreter)


def with_shim(base: str, farexec: Path) -> str:
    """The interpreter of an environment that sees the packages of `base`, and before them farexec and the shim.

    It holds nothing but links, so that it is always what is measured, whatever else is installed meanwhile.
    """
    sources = {"farexec": farexec, "execnet": ROOT / "shim" / "src" / "execnet"}
    place = hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{Path(base).parents[1].name}-{SHIM}-{place}"
    complete = folder / "complete"
    if not complete.is_file():
        venv.create(folder, clear=True, symlinks=True)
        packages = packages_of(folder)
        for name, source in sources.items():
            (packages / name).symlink_to(source)
        (packages / "base.pth").write_text(f"{packages_of(Path(base).parents[1])}\n")
        complete.touch()
    return str(folder / "bin" / "python")


def packages_of(folder: Path) -> Path:
    """Where the environment in `folder` has its packages."""
    return Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(folder)}))


def cache_folder() -> Path:
    """Where environments are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "farexec-bench"


def probe(interpreter: str, *libraries: str) -> dict[str, str]:
    """The versions of an interpreter and of libraries in it."""
    command = [interpreter, "-c", PROBE, *libraries]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_LIMIT, check=False, cwd=cache_parent()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentProblem(f"could not run {interpreter}: {error}") from error
    if done.returncode != 0:
        raise EnvironmentProblem(f"{interpreter} failed: {last_line(done.stderr)}")
    found: dict[str, str] = json.loads(done.stdout)
    return found


def cache_parent() -> str:
    """A folder that has no package in it by accident, as the present one may have."""
    return os.path.abspath(os.sep)


def last_line(text: str) -> str:
    """The last line with something in it."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "without a word"
