"""remoto on the shim: it runs commands and modules at other hosts, here at this one."""

import logging
import os
import types

import pytest
import remoto.process


@pytest.fixture
def connection():
    made = remoto.Connection("localhost", logging.getLogger("remoto"), interpreter="python3")
    yield made
    made.exit()


def test_a_command(connection):
    out, error, status = remoto.process.check(connection, ["sh", "-c", "echo said; echo wrong >&2; exit 3"])
    assert (out, error, status) == (["said"], ["wrong"], 3)


def test_a_command_that_is_not_there(connection):
    with pytest.raises(RuntimeError, match="no-such-command"):
        remoto.process.check(connection, ["no-such-command"])


def test_a_module(connection, tmp_path):
    path = tmp_path / "far.py"
    path.write_text(
        "import os\n\ndef where():\n    return os.getpid()\n\ndef add(a, b):\n    return a + b\n\n"
        "if __name__ == '__channelexec__':\n    for item in channel:\n        channel.send(eval(item))\n"
    )
    module = types.ModuleType("far")
    module.__file__ = str(path)
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    far = connection.import_module(module)
    assert far.add(1, 2) == 3
    assert far.where() != os.getpid()
    assert connection.has_connection()
