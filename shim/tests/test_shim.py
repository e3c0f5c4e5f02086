"""farexec under the name execnet: names are where users import them from, and lead to the same objects."""

import importlib
import os
import subprocess
import sys

import execnet
import farexec


def test_the_names_are_farexecs():
    for name in execnet.__all__:
        if name != "Group" and not name.islower():
            assert getattr(execnet, name) is getattr(farexec, name)
    assert issubclass(execnet.Group, farexec.Group)
    assert execnet.multi.Group is execnet.gateway.Group is execnet.Group
    assert execnet.__version__.startswith("2.99")


def test_submodules_have_what_users_import_from_them():
    wanted = {
        "gateway_base": ["Channel", "ExecModel", "get_execmodel", "RemoteError", "TimeoutError", "DumpError", "dumps", "loads"],
        "gateway": ["Gateway", "RInfo", "RemoteStatus"],
        "multi": ["Group", "MultiChannel", "NO_ENDMARKER_WANTED", "default_group"],
        "rsync": ["RSync"],
        "xspec": ["XSpec"],
        "gateway_bootstrap": ["HostNotFound"],
        "gateway_io": [],
        "gateway_socket": [],
        "script.socketserver": ["main"],
    }
    for module, names in wanted.items():
        found = importlib.import_module(f"execnet.{module}")
        for name in names:
            assert hasattr(found, name), f"execnet.{module}.{name}"


def test_the_variable_that_asks_for_a_trace_is_execnets():
    program = "import execnet; execnet.makegateway().remote_exec('channel.send(42)').receive()"
    environment = {**os.environ, "EXECNET_DEBUG": "2"}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    assert "gw0 <- Item channel 1" in result.stderr


def test_an_execution_model_is_an_object_here_and_there():
    with execnet.Group(execmodel="main_thread_only") as group:
        gateway = group.makegateway("popen")
        assert gateway.execmodel.backend == group.execmodel.backend == "main_thread_only"
        assert repr(group.remote_execmodel) == "<ExecModel 'main_thread_only'>"
        event = gateway.execmodel.Event()
        event.set()
        with gateway.execmodel.RLock():
            assert event.is_set()
        channel = gateway.remote_exec("model = channel.gateway.execmodel; model.Event().set(); channel.send(repr(model))")
        assert channel.receive(5) == "<ExecModel 'main_thread_only'>"


def test_a_gateway_that_exits_leaves_its_group_and_is_still_ended_with_it():
    group = execnet.Group()
    gateway = group.makegateway("popen")
    gateway.exit()
    assert gateway not in group and repr(group) == "<Group []>"
    group.terminate(timeout=1)
    assert gateway.returncode == 0


PRINTING = """
import execnet
with execnet.Group(["popen", "popen//stdout=inherit"]) as group:
    group.remote_exec("import sys; print(channel.gateway.id); print('complaint', file=sys.stderr)").waitclose()
"""


def test_what_workers_print_goes_nowhere_unless_it_is_asked_for():
    """Each worker of pytest-xdist printed the report of its own test run between the lines of the real one."""
    result = subprocess.run([sys.executable, "-c", PRINTING], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    assert result.stdout == "gw1-worker\n"
    assert result.stderr.count("complaint") == 2
