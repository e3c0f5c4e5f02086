"""The same program under execnet 2.1.2 and under the shim prints the same; what differs is meant, and docs/EXECNET.md says why."""

import ast
import json
import os
import pathlib
import subprocess
import sys

PROGRAM = pathlib.Path(__file__).with_name("both.py")
NAMES = pathlib.Path(__file__).with_name("names.py")

# Names of lines that differ, each with a row in docs/EXECNET.md.
MEANT = set(
    r"""
spec ''
spec 'popen//'
spec '//popen'
spec 'popen//_x=1'
spec 'popen//what=1'
spec 'popen//env:A'
spec 'popen//env:A=1//env:A=2'
gateway of id=a
gateway of popen//execmodel=slow
gateway of popen//via=nobody
transport via nobody
transport installvia nobody
group duplicate id
group lookup of a place
taken gw0
taken gw1
transport processes
dead isclosed
loads b'\x02'
loads b'\x02L'
loads b'\x02LQL'
loads b'\x02F\x00Q'
loads b'\x02D\x00Q'
loads b'\x02@\x00\x00\x00\tQ'
loads None
dumps -2147483649
error of "raise EOFError('x')"
frames of "raise EOFError('x')"
error text whole
source of another type
remote error
rsync option
rsync callback
gateway of a closed port
gateway of a host without a name
queue full
queue put
queue done
""".strip().splitlines()
)

# What execnet's modules define besides what users import: how workers are started and spoken to, and what that is made of.
INNER = """
    COMPLEX_FORMAT COMPLEX_FORMAT_SIZE ChannelFactory DEBUG ENDMARKER Event EventletExecModel FLOAT_FORMAT FLOAT_FORMAT_SIZE
    FOUR_BYTE_INT_MAX GatewayReceivedTerminate GeventExecModel INTERRUPT_TEXT IO MAIN_THREAD_ONLY_DEADLOCK_TEXT MainThreadOnlyExecModel
    Message Popen2IO Popen2IOMaster ProxyIO PseudoSpec RIO_CLOSE_WRITE RIO_KILL RIO_REMOTEADDRESS RIO_WAIT ReadIO Reply SocketIO
    TYPE_CHECKING ThreadExecModel Unserializer WorkerGateway WorkerPool WriteIO bchr bind_and_listen bootstrap bootstrap_exec
    bootstrap_import bootstrap_socket create_io debug dumps_internal exec_ exec_from_one_connection geterrortext importdir init_popen_io
    loads_internal notrace opcode pid popen_args popen_bootstrapline print_ progname rinfo_source safe_terminate sendexec serve
    serve_proxy_io shell_split_path ssh_args start_via startserver sysex trace vagrant_ssh_args
"""


def run(program, **environment):
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run([sys.executable, program], capture_output=True, text=True, env=clean | environment, timeout=50)
    assert result.returncode == 0, result.stderr
    return result.stdout


def both(program):
    return run(program), run(program, PYTHONPATH=os.environ["PYTHONPATH"])


def test_what_is_printed_is_the_same():
    theirs, ours = [dict(line.split(": ", 1) for line in output.splitlines()) for output in both(PROGRAM)]
    assert list(theirs) == list(ours)
    different = {name for name in theirs if theirs[name] != ours[name]}
    told = [f"{name}\n  execnet: {theirs[name]}\n  farexec: {ours[name]}" for name in sorted(different - MEANT)]
    assert not told, "\n".join(told)
    assert not MEANT - different, f"no longer different: {MEANT - different}"


def test_every_name_is_used_by_the_program_and_is_there():
    theirs, ours = map(json.loads, both(NAMES))
    tree = list(ast.walk(ast.parse(PROGRAM.read_text())))
    attributes = [node for node in tree if isinstance(node, ast.Attribute)]
    of_execnet = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "execnet"}
    used = {node.attr for node in attributes}
    wanted = {module: set(names) - set(INNER.split()) for module, names in theirs["defined"].items()}
    assert len(theirs["all"]) > 15
    assert set(theirs["all"]) <= of_execnet, "not used by both.py"
    assert set(theirs["all"]) <= set(ours["all"])
    assert {name for methods in theirs["methods"].values() for name in methods} <= used, "not used by both.py"
    assert set.union(*wanted.values()) - {"main"} <= used, "not used by both.py"  # that of the socket server's script serves for ever
    missing = {module: names - set(ours["names"][module]) for module, names in wanted.items()}
    assert not any(missing.values()), missing


def test_functions_and_methods_take_the_same_arguments():
    theirs, ours = map(json.loads, both(NAMES))
    assert theirs["functions"] == ours["functions"]
    here = {f"{kind}.{name}": taken for kind, methods in ours["methods"].items() for name, taken in methods.items()}
    there = {f"{kind}.{name}": taken for kind, methods in theirs["methods"].items() for name, taken in methods.items()}
    assert there.pop("RSync.add_target")[:3] == here.pop("RSync.add_target")[:3]  # execnet takes any options, and looks at them later
    assert there.pop("Channel.send") == here.pop("Channel.send")[:1]  # here it may also be said how long it may wait: timeout=None
    assert there.keys() <= here.keys()
    assert {name: taken for name, taken in there.items() if name in here and here[name] != taken} == {}
