"""What is slow about starting a worker on this machine is done once: compiling it, and finding the interpreter behind a script."""

import os
import sys

import pytest

KNOWN = "channel.send(type(channel.gateway).serve.__globals__.get('known'))"


@pytest.fixture
def shim(tmp_path):
    """A script `python3` in a folder of its own, as pyenv puts on the path. It leaves a line at each run, and has its own ideas."""
    script = tmp_path / "shims" / "python3"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho run >> {tmp_path}/runs\nexport SHIM=yes\nunset GONE\nexec {sys.executable} -X dev "$@"\n')
    script.chmod(0o755)
    return script


def runs(shim):
    return (shim.parent.parent / "runs").read_text().count("run")


def seen(gateway):
    source = "import os, sys; channel.send((os.environ.get('SHIM'), os.environ.get('GONE'), sys.flags.dev_mode, sys.executable))"
    return gateway.remote_exec(source).receive()


@pytest.fixture
def on_path(shim, monkeypatch):
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GONE", "no")
    return "popen//start=spawn//python=python3"


def test_the_interpreter_behind_a_script_on_the_path_is_found_once(group, shim, on_path):
    """A `python3` on the path was a script of pyenv's: each start took 90 ms instead of 30."""
    first, second = seen(group.makegateway(on_path)), seen(group.makegateway(on_path))
    assert runs(shim) == 1
    # What else the script does is not lost.
    assert first == second == ("yes", None, True, sys.executable)


def test_a_script_that_was_changed_is_run_again(group, shim, on_path):
    group.makegateway(on_path)
    shim.write_text(shim.read_text().replace("SHIM=yes", "SHIM=other"))
    assert seen(group.makegateway(on_path))[0] == "other"
    assert runs(shim) == 2


def test_a_script_may_choose_by_directory_and_environment(group, shim, on_path, tmp_path):
    """pyenv looks for a file `.python-version`, and for the variable PYENV_VERSION."""
    group.makegateway(on_path)
    group.makegateway(f"{on_path}//chdir={tmp_path}")
    group.makegateway(f"{on_path}//env:PYENV_VERSION=3")
    assert runs(shim) == 3


def test_a_script_that_is_named_by_its_path_is_always_run(group, shim):
    for _ in range(2):
        assert seen(group.makegateway(f"popen//start=spawn//python={shim}"))[0] == "yes"
    assert runs(shim) == 2


def test_an_interpreter_compiles_the_worker_once(group, python):
    """Compiling the worker took longer than starting the interpreter, for every worker anew."""
    if "2.7" in python:
        pytest.skip("Python 2 says nothing of its code")
    spec = f"popen//start=spawn//python={python}"
    group.makegateway(spec)
    assert group.makegateway(spec).remote_exec(KNOWN).receive() is True


def test_the_running_interpreter_has_compiled_it_already(group):
    gateway = group.makegateway(f"popen//start=spawn//python={sys.executable}")
    assert gateway.remote_exec(KNOWN).receive() is True
    with pytest.raises(gateway.remote_exec("pass").RemoteError) as raised:
        gateway.remote_exec("channel.send(object())").receive()
    assert "worker.py" not in str(raised.value)
