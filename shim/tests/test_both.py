"""The same program under execnet 2.1.2 and under the shim prints the same; what differs is meant, and docs/EXECNET.md says why."""

import ast
import os
import pathlib
import subprocess
import sys

PROGRAM = pathlib.Path(__file__).with_name("both.py")

# Names of lines that differ, each with a row in docs/EXECNET.md.
MEANT = {
    "TimeoutError bases",
    "signature RSync.add_target",
    "spec private",
    "loads b'\\x02'",
    "transport installed items",
    "transport installed new process",
    "transport via nobody",
    "transport id taken",
    "transport without program",
}


def run(*arguments, **environment):
    """What a Python prints that has execnet; with a PYTHONPATH, the shim."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=clean | environment, timeout=50)
    assert result.returncode == 0, result.stderr
    return result.stdout


def output(**environment):
    return dict(line.split(": ", 1) for line in run(str(PROGRAM), **environment).splitlines())


def test_every_public_name_is_used():
    """Of execnet's, and of the objects it makes."""
    names = {node.attr for node in ast.walk(ast.parse(PROGRAM.read_text())) if isinstance(node, ast.Attribute)}
    public = run("-c", "import execnet; print(*execnet.__all__)").split()
    assert len(public) == 20
    # Those that no line of the program names are shown by the loop over all of them.
    assert set(public) - names <= {"Channel", "MultiChannel", "HostNotFound", "TimeoutError", "DumpError", "LoadError", "__version__"}


def test_what_is_printed_is_the_same():
    theirs, ours = output(), output(PYTHONPATH=os.environ["PYTHONPATH"])
    assert list(theirs) == list(ours)
    different = {name for name in theirs if theirs[name] != ours[name]}
    told = [f"{name}\n  execnet: {theirs[name]}\n  farexec: {ours[name]}" for name in sorted(different - MEANT)]
    assert not told, "\n".join(told)
    assert not MEANT - different, f"no longer different: {MEANT - different}"
