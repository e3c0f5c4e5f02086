"""How a worker starts: stage 0, START and HELLO, and what becomes of its descriptors and its namespace."""

import os
import subprocess

import pytest

from coordinator import (
    CLOSE,
    CLOSE_ERROR,
    DUMP_FORMAT,
    HELLO,
    MARKER,
    STAGE0,
    START,
    Coordinator,
    compiled_stage1,
    dump,
    load,
    pack_frame,
    stage1,
)


def test_hello_says_who_answers(worker, python):
    hello = worker.hello
    version, implementation = subprocess.check_output(
        [python, "-c", "import sys,platform; print(list(sys.version_info[:3])); print(platform.python_implementation().lower())"], text=True
    ).split("\n")[:2]
    assert hello["protocol"] == 1
    assert repr(hello["version"]) == version
    assert hello["implementation"] == implementation
    assert hello["pid"] == worker.process.pid
    assert hello["cwd"] == os.getcwd()
    assert hello["platform"].startswith("linux")
    assert os.path.samefile(hello["executable"], python)
    assert hello["reads_message"] == (hello["version"] >= [3, 4])
    assert hello["error"] is None


def test_stage_0_survives_a_shell(python):
    assert not set(STAGE0) & set("'\n$`!")
    command = ["sh", "-c", f"echo welcome; exec {python} -c '{STAGE0}'"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output, _ = process.communicate(stage1() + pack_frame(START, 0, dump({"protocol": 1, "id": "gw0"}), DUMP_FORMAT), timeout=20)
    chatter, frames = output.split(MARKER)
    assert chatter == b"welcome\n"
    assert frames[0] == HELLO


@pytest.mark.parametrize("other_magic", [False, True])
def test_stage_1_may_bring_the_worker_compiled(start, python, other_magic):
    worker = start(stage_1=compiled_stage1(python, other_magic))
    assert worker.evaluate("channel.send(1)") == [1]
    error = worker.expect(CLOSE_ERROR, worker.execute("channel.send(object())"))
    assert "farexec worker" not in error["text"]


def test_input_that_ends_early_ends_the_worker(python):
    for beginning in (b"", b"0000", stage1()[:100], stage1()):
        process = subprocess.run([python, "-c", STAGE0], input=beginning, capture_output=True, timeout=20)
        assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")


def test_frames_may_follow_start_at_once(python):
    start = pack_frame(START, 0, dump({"protocol": 1, "id": "gw0"}), DUMP_FORMAT)
    execute = pack_frame(0x10, 1, dump({"source": "channel.send(42)"}), DUMP_FORMAT)
    process = subprocess.Popen([python, "-c", STAGE0], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(stage1() + start + execute)
    process.stdin.flush()
    data = b""
    while not data.endswith(pack_frame(CLOSE, 1)):
        data += os.read(process.stdout.fileno(), 65536)
    process.stdin.close()
    process.stdout.close()
    assert process.wait(20) == 0


def test_start_is_applied(start, tmp_path):
    directory = tmp_path / "made" / "here"
    worker = start(start={"chdir": str(directory), "env": {"FAREXEC_TEST": "värde"}, "nice": 3, "dont_write_bytecode": True})
    assert worker.hello["cwd"] == str(directory)
    source = """
import os, sys
channel.send(os.getcwd())
value = os.environ["FAREXEC_TEST"]
channel.send(value.decode("utf-8") if isinstance(value, bytes) else value)
channel.send(os.nice(0))
channel.send(sys.dont_write_bytecode)
channel.send(channel.gateway.id)
"""
    here, value, nice, bytecode, gateway_id = worker.evaluate(source)
    assert here in (str(directory), str(directory).encode())
    assert (value, bytecode, gateway_id) == ("värde", True, gateway_id)
    assert nice == os.nice(0) + 3
    assert gateway_id in ("gw0-worker", b"gw0-worker")


def test_start_that_cannot_be_applied_is_answered(start, tmp_path):
    (tmp_path / "file").write_text("")
    worker = start(start={"chdir": str(tmp_path / "file" / "below")})
    assert "file" in worker.hello["error"]
    assert worker.wait() == 1


def test_print_goes_to_standard_error_unless_told_otherwise(worker):
    source = "import os, sys; print('printed'); os.system('echo from a child'); sys.stderr.write('to stderr\\n'); print('last')"
    worker.evaluate(source)
    worker.terminate()
    assert worker.wait() == 0
    assert worker.stderr == b"printed\nfrom a child\nto stderr\nlast\n"


def test_print_goes_where_start_says(start):
    reader, writer = os.pipe()
    worker = start(stdout=writer)
    os.close(writer)
    worker.evaluate("import os, sys; print('printed'); os.system('echo from a child'); sys.stdout.write('no end of line')")
    worker.terminate()
    assert worker.wait() == 0
    with open(reader, "rb") as stream:
        assert stream.read() == b"printed\nfrom a child\nno end of line"
    assert worker.stderr == b""


def test_a_descriptor_that_is_another_file_is_left_alone(start):
    with open(os.devnull) as null:
        worker = start(start={"stdout": [null.fileno(), 1, 2]})
        worker.evaluate("print('printed')")
        worker.terminate()
        worker.wait()
    assert worker.stderr == b"printed\n"


def test_input_is_empty(worker):
    assert worker.evaluate("import sys; channel.send(len(sys.stdin.read())); import os; channel.send(len(os.read(0, 10)))") == [0, 0]


def test_children_inherit_nothing_of_the_protocol(worker):
    source = """
import os, subprocess, sys
listing = subprocess.Popen(["ls", "-l", "/proc/self/fd"], stdout=subprocess.PIPE, close_fds=False).communicate()[0]
channel.send(listing.decode("ascii"))
channel.send(sorted(int(name) for name in os.listdir("/proc/self/fd")))
"""
    listing, mine = worker.evaluate(source)
    assert all(number < 10 for number in (int(line.split()[8]) for line in listing.splitlines()[1:])), listing
    assert [number for number in mine if number >= 200] == [200, 201]


def test_the_namespace_is_clean(worker, python):
    source = """
import __main__, sys
channel.send([str(name) for name in vars(__main__) if not name.startswith("__")])
channel.send(repr(sys.path))
channel.send(repr(sys.argv))
channel.send(repr(sorted(name for name in list(globals()) if name[:2] != "__" and name not in ("name", "sys"))))
"""
    names, path, arguments, own = worker.evaluate(source)
    expected = subprocess.check_output([python, "-c", "import sys; print(sys.path); print(sys.argv)"], text=True).splitlines()
    assert names == []
    assert [as_text(path), as_text(arguments)] == expected
    assert as_text(own) == "['channel']"


def test_little_is_imported(worker):
    """A worker starts with what it needs; the interpreter's own start-up files may add to it, and are taken off."""
    plain = subprocess.check_output([worker.process.args[0], "-c", "import sys; print(sorted(sys.modules))"], text=True)
    (loaded,) = worker.evaluate("import sys; channel.send([str(name) for name in sys.modules])")
    loaded = {as_text(name) for name in loaded}
    for module in ("threading", "traceback", "collections", "functools", "_pickle", "signal", "enum", "subprocess", "select"):
        if f"'{module}'" not in plain and worker.hello["implementation"] == "cpython":
            assert module not in loaded


def test_the_module_does_nothing_when_imported(python):
    path = os.path.dirname(os.path.abspath(Coordinator.__init__.__code__.co_filename)) + "/../../python/farexec"
    code = f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {path!r}); import worker; print(worker.PROTOCOL_VERSION)"
    assert subprocess.check_output([python, "-c", code], timeout=20) == b"1\n"


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_newer_coordinator_is_told_the_version(start, protocol):
    assert start(start={"protocol": protocol, "unknown": [1]}).hello["protocol"] == 1


def as_text(value):
    return value.decode() if isinstance(value, bytes) else value


assert load(dump({"a": [1, (2,)]})) == {"a": [1, (2,)]}
