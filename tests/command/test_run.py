"""`farexec run`: results, what workers print, and exit codes."""

import socket
import subprocess
import sys

import pytest

import shell


def test_text_and_what_it_prints(run, here):
    result = run("run", "-c", "print('printed'); channel.send(6 * 7); channel.send(None)", here)
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\nnull\n", "[gw0] printed\n")


def test_a_worker_on_this_machine_is_the_default(run, lines):
    result = run("run", "-c", "import os; channel.send(os.getppid() > 0)")
    assert (result.returncode, lines(result)) == (0, [True])


def test_a_file_with_arguments(run, here, lines, tmp_path):
    file = tmp_path / "file.py"
    file.write_text("channel.send([name, number, __file__ if '__file__' in globals() else None])\n")
    result = run("run", str(file), here, "--arg", "name=web01", "--arg", "number=3")
    assert (result.returncode, lines(result)) == (0, [["web01", 3, None]])


def test_a_file_that_is_a_program_too(run, here, tmp_path):
    file = tmp_path / "file.py"
    file.write_text("channel.send(1)\nif __name__ == '__main__':\n    channel.send(2)\n")
    result = run("run", str(file), here)
    assert (result.returncode, result.stdout) == (0, "1\n")
    assert result.stderr.startswith(f"{file}: at a worker `__name__` is `__channelexec__`")


def test_functions(run, here, code, lines):
    assert lines(run("run", f"{code}:add", here)) == [3]
    assert lines(run("run", f"{code}:add", here, "-a", "a=40")) == [42]
    assert lines(run("run", f"{code}:numbers", here, "-a", "count=2")) == [0, 1]
    assert lines(run("run", f"{code}:letters", here)) == ["a", "b"]
    assert lines(run("run", "platform:python_implementation", here)) == ["CPython"]


def test_old_interpreters_run_functions_too(run, code, lines, python):
    result = run("run", f"{code}:letters", f"popen//python={python}")
    assert (result.returncode, lines(result)) == (0, ["a", "b"])
    result = run("run", f"{code}:fail", f"popen//python={python}")
    assert result.returncode == 1 and "ValueError: no luck with None" in result.stderr


def test_scripts_that_end_themselves(run, here, lines):
    for end in ("sys.exit()", "sys.exit(0)", "sys.exit(None)"):
        result = run("run", "-c", f"import sys; channel.send(1); {end}", here)
        assert (result.returncode, lines(result), result.stderr) == (0, [1], "")
    result = run("run", "-c", "import sys; sys.exit(2)", here)
    assert result.returncode == 1 and "SystemExit: 2" in result.stderr


def test_several_workers_and_tags(run, here, lines):
    result = run("run", "-c", "channel.send(1)", f"{here}*3", "--on", f"{here}//id=extra", "--tag")
    assert result.returncode == 0
    assert sorted(row["gateway"] for row in lines(result)) == ["extra", "gw0", "gw1", "gw2"]
    assert {row["result"] for row in lines(result)} == {1}


def test_what_json_has_no_word_for(run, here, lines):
    text = "channel.send(((1, 2), {3}, b'abc', 1j, {1: 'a'}, 2**70, float('nan')))"
    plain = [[1, 2], [3], {"$bytes": "YWJj"}, {"$complex": [0.0, 1.0]}, {"$dict": [[1, "a"]]}, 2**70, {"$float": "nan"}]
    assert lines(run("run", "-c", text, here)) == [plain]
    typed = [{"$tuple": [1, 2]}, {"$set": [3]}, *plain[2:]]
    assert lines(run("run", "-c", text, here, "--typed")) == [{"$tuple": typed}]


def test_an_exception_is_told_and_others_go_on(run, here, code, lines):
    result = run("run", "-c", "channel.send(1)\nif channel.gateway.id.startswith('gw0'): 1 / 0", f"{here}*2")
    assert (result.returncode, lines(result)) == (1, [1, 1])
    assert "[gw0] ZeroDivisionError: " in result.stderr and "[gw1]" not in result.stderr
    result = run("run", f"{code}:fail", here)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "[gw0] ValueError: no luck with None"
    assert f'File "{code}", line' in result.stderr and "<farexec" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there is nothing to run"),
        (["no-such-file.py"], "cannot read `no-such-file.py`"),
        (["-c", "1", "popen//chdri=/"], "did you mean `chdir`?"),
        (["-c", "1", "web01"], "for a host write `ssh=web01`"),
        (["-c", "1", "popen*0"], "a count is a number from 1"),
        (["-c", "1", "popen//id=a", "popen//id=a"], "already has a gateway with the id `a`"),
        (["-c", "1", "--arg", "1"], "write NAME=VALUE"),
        (["-c", "1", "--no-such-option"], "--no-such-option"),
        (["-c", "1", "--hosts", "/no/such/file"], "cannot read the hosts file"),
    ],
)
def test_mistakes(run, arguments, said):
    result = run("run", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_worker_that_cannot_be_started_takes_no_other_along(run, here, lines):
    result = run("run", "-c", "channel.send(1)", here, "popen//python=no-such-python//id=missing")
    assert (result.returncode, lines(result)) == (3, [1])
    assert "[missing] there is no interpreter `no-such-python`" in result.stderr
    result = run("run", "-c", "channel.send(1)", "popen//python=no-such-python*2")
    assert result.returncode == 3 and "none of 2 workers could be started" in result.stderr


def test_a_worker_that_dies(run, here, lines):
    result = run("run", "-c", "channel.send(1)\nimport os\nos._exit(7)", here)
    assert (result.returncode, lines(result)) == (4, [1])
    assert "exited with status 7" in result.stderr


def test_nobody_reads(here):
    """The exit code is what the shell's own tools have, and nothing is said."""
    text = "while True: channel.send('x' * 1000)"
    with subprocess.Popen([shell.COMMAND, "run", "-c", text, here], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith('"x')
        process.stdout.close()
        assert (process.wait(timeout=30), process.stderr.read()) == (141, "")


def test_dry_run_starts_nothing(run, lines, tmp_path):
    result = run("run", "-c", "1", "ssh=me@web[01-02]//python=python3.12", f"popen//chdir={tmp_path}/new", "-n")
    assert result.returncode == 0
    first, second, third = lines(result)
    assert first == {"gateway": "web01", "spec": "ssh=me@web01//python=python3.12", "command": "ssh me@web01 'python3.12 -c ...'"}
    assert (second["gateway"], third["gateway"]) == ("web02", "gw0")
    assert not (tmp_path / "new").exists()


def test_at_a_terminal_names_are_in_colour(here):
    text = "import sys; print('out'); sys.stderr.write('err\\n'); channel.send([1])"
    with shell.Terminal("run", "-c", text, f"{here}*2") as terminal:
        assert terminal.wait() == 0
    first, second = "\x1b[36m[gw0]\x1b[0m", "\x1b[32m[gw1]\x1b[0m"
    for name in (first, second):
        assert f"{name} [1]\r\n" in terminal.seen
        assert f"{name} out\x1b[0m\r\n" in terminal.seen and f"{name} \x1b[2merr\x1b[0m\r\n" in terminal.seen


def test_colour_anywhere_if_it_is_wanted(run, here):
    result = run("run", "-c", "print('out'); channel.send(1)", here, "--color=always")
    assert (result.stdout, result.stderr) == ("1\n", "\x1b[36m[gw0]\x1b[0m out\x1b[0m\n")


@pytest.mark.parametrize("how", ["NO_COLOR", "--color=never"])
def test_without_colour_if_it_is_not_wanted(here, how):
    changes = {how: "1"} if how == "NO_COLOR" else {}
    with shell.Terminal(
        "run", "-c", "print('out'); channel.send(1); 1 / 0", f"{here}*2", *([how] if not changes else []), **changes
    ) as terminal:
        assert terminal.wait() == 1
    assert "[gw0] 1\r\n" in terminal.seen and "[gw1] out\r\n" in terminal.seen
    assert "\x1b[3" not in terminal.seen


def test_a_terminal_that_can_do_nothing(here):
    with shell.Terminal("run", "-c", "print('out'); channel.send(1); 1 / 0", f"{here}*2", TERM="dumb") as terminal:
        assert terminal.wait() == 1
    assert "[gw0] 1\r\n" in terminal.seen and "\x1b" not in terminal.seen


def test_ctrl_c_ends_it(here):
    with shell.Terminal("run", "-c", "import time; print('begun'); time.sleep(600)", here) as terminal:
        terminal.wait_for("begun")
        terminal.wait_for("waiting for gw0")
        terminal.press(shell.CTRL_C)
        assert terminal.wait() == 130
    assert "Traceback" not in terminal.seen


def test_ctrl_c_while_workers_start():
    """A host that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        spec = f"ssh=-F /dev/null -p {silent.getsockname()[1]} 127.0.0.1"
        with shell.Terminal("run", "-c", "1", spec) as terminal:
            terminal.wait_for("starting a worker")
            connection, _ = silent.accept()
            with connection:
                terminal.press(shell.CTRL_C)
                assert terminal.wait() == 130
    assert "stopped while workers started" in terminal.seen


def test_the_interpreter_of_the_console_script_is_the_default(lines):
    result = shell.run("run", "-c", "import sys; channel.send(sys.executable)", command=shell.SCRIPT)
    assert lines(result) == [sys.executable]
