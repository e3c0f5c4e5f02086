"""Who competes: the libraries in their variants, their rivals, and programs of any kind.

A contender says which interpreter of `environments` runs its case, which library the case is to use, and
where its workers run. `rows` puts contenders into rows; `runner` starts them.
"""

from __future__ import annotations

from dataclasses import dataclass

from .environments import SHIM


@dataclass(frozen=True)
class Contender:
    """One column of figures.

    A `program` takes the arguments of ``case.py`` and prints the same JSON; it is a path below the
    folder of what cargo builds. Without one, ``case.py`` is run by the interpreter of that `environment`. In a spec,
    ``{plain}`` stands for an interpreter that has no farexec, ``{own}`` for one that has. `worker` is what the far end has to be for the
    figure to be this contender's.
    """

    name: str
    library: str
    environment: str = "farexec"
    spec: str = "popen"
    options: tuple[str, ...] = ()
    worker: str | None = None
    program: str | None = None


EXECNET = Contender("execnet", "execnet", environment="execnet")

FAREXEC = Contender("farexec", "farexec", worker="native")
ZERO_INSTALL = Contender("farexec zero-install", "farexec", spec="popen//python={plain}", worker="pure")
TEMPLATE = Contender("farexec template", "farexec", spec="popen//start=template")
WARM_TEMPLATE = Contender("farexec warm template", "farexec", spec="popen//start=template", options=("warm",))
SPAWN = Contender("farexec spawn", "farexec", spec="popen//start=spawn")
ELSEWHERE = Contender("farexec elsewhere", "farexec", spec="command=env")
"""A worker that is reached as those on other machines are."""
MAP = Contender("farexec map", "farexec", options=("map",))
ASYNCIO = Contender("farexec asyncio", "farexec", options=("asyncio",), worker="native")
OWN = "popen//python={own}"
PROGRAM = "release/examples/farexec-bench"
RUST = Contender("farexec in Rust", "farexec", spec=OWN, worker="native", program=PROGRAM)
EMBEDDED = Contender("embedded by PyO3", "pyo3", program="release/farexec-bench-embedded")
FUTURES = Contender("farexec in Rust, futures", "farexec", spec=OWN, options=("tokio",), worker="native", program=PROGRAM)

PYTHON = Contender("python -c pass", "python")
PIPE = Contender("bare pipe", "pipe")
MULTIPROCESSING_PIPE = Contender("multiprocessing.Pipe", "multiprocessing")
POOL = Contender("multiprocessing.Pool", "multiprocessing")
EXECUTOR = Contender("ProcessPoolExecutor", "futures")
PICKLE = Contender("pickle 5", "pickle")
MPIRE = Contender("mpire", "mpire", environment="rivals")
LOKY = Contender("loky", "loky", environment="rivals")
MITOGEN_FORK = Contender("mitogen fork", "mitogen", environment="rivals", options=("fork",))
MITOGEN_LOCAL = Contender("mitogen local", "mitogen", environment="rivals")
PYRO = Contender("Pyro5", "Pyro5", environment="rivals")
RPYC = Contender("rpyc", "rpyc", environment="rivals")
RSYNC = Contender("rsync", "rsync")

PYTEST = Contender("pytest without xdist", "execnet", environment="xdist", options=("alone",))
XDIST = Contender("xdist on execnet", "execnet", environment="xdist")
XDIST_SHIM = Contender("xdist on the shim", "farexec", environment=SHIM)
XDIST_PRELOAD = Contender(
    "xdist on the shim, preload", "farexec", environment=SHIM, spec="popen//preload=pytest,numpy"
)
