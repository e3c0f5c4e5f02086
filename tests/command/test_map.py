"""`farexec map`: one result for each item, whatever becomes of workers; Ctrl-C; exit codes."""

import json
import os
import signal
import subprocess

import pytest

import shell
from processes import is_running, wait_until, wait_until_gone

# Leaves a file for each item when it begins, with the id of its process in it.
MARKING = """
def mark(item):
    import os
    import time

    path = os.path.join(os.environ["MARKS"], str(item))
    with open(path + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".new", path)
    time.sleep(float(os.environ["SECONDS"]))
    return item
"""


def numbers(count):
    return "".join(f"{number}\n" for number in range(count))


@pytest.fixture
def marks(tmp_path):
    """A folder, and the words of a function that leaves a file in it for each item that is begun."""
    (tmp_path / "marks.py").write_text(MARKING)
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder, f"{tmp_path}/marks.py:mark"


def begun(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_results_in_order_and_as_they_come(run, code, here, lines):
    result = run("map", f"{code}:square", f"{here}*2", stdin=numbers(500))
    assert (result.returncode, lines(result)) == (0, [number * number for number in range(500)])
    result = run("map", f"{code}:square", f"{here}*2", "--unordered", "--tag", stdin=numbers(500))
    assert result.returncode == 0
    assert sorted((row["index"], row["result"]) for row in lines(result)) == [(number, number * number) for number in range(500)]


def test_as_many_workers_as_processors_are_the_default(run, lines):
    result = run("map", "-n", "math:sqrt")
    assert len(lines(result)) == len(os.sched_getaffinity(0))
    assert lines(run("map", "math:sqrt", stdin="4\n9")) == [2.0, 3.0]


def test_expressions_arguments_and_lines(run, here, lines, tmp_path):
    assert lines(run("map", "-c", "item['a'] + 1  # a comment", here, stdin='{"a": 1}\n\n{"a": 2}\n')) == [2, 3]
    assert lines(run("map", "-m", "os.path", "-c", "os.path.basename(item)", here, "--lines", stdin="/a/b\nc\n")) == ["b", "c"]
    assert lines(run("map", "math:pow", "--star", here, stdin="[2, 10]\n[3, 2]\n")) == [1024, 9]
    file = tmp_path / "items"
    file.write_text("1\n2")
    assert lines(run("map", "-c", "-item", here, "--input", str(file))) == [-1, -2]
    assert run("map", "-c", "item", here).stdout == ""


def test_items_are_what_they_were(run, here, lines):
    items = [{"$tuple": [1, {"$set": [2]}]}, {"$bytes": "AP8="}, 2**70, 1.0, {"$dict": [[1, {"$float": "inf"}]]}, {"$complex": [1.0, 2.0]}]
    stdin = "".join(json.dumps(item) + "\n" for item in items)
    result = run("map", "-c", "item", here, "--typed", stdin=stdin)
    assert result.stdout == stdin.replace(": ", ":").replace(", ", ",")
    names = lines(run("map", "-c", "type(item).__name__", here, stdin=stdin))
    assert names == ["tuple", "bytes", "int", "float", "dict", "complex"]


def test_a_run_that_was_cut_off_goes_on(run, here, lines, tmp_path):
    journal, executed = tmp_path / "journal", tmp_path / "executed"
    count = f"(open({str(executed)!r}, 'a').write('.'), 6 // (item - 2))[1]"
    arguments = ("map", "-c", count, here, "--prefetch", "1", "--journal", str(journal))
    assert run(*arguments, stdin=numbers(6)).returncode == 1
    before = len(executed.read_text())
    assert 2 < before < 6
    result = run(*arguments, "--on-error", "skip", stdin=numbers(6))
    assert lines(result) == [-3, -6, 6, 3, 2]
    assert len(executed.read_text()) == 7  # each once, and once more what failed
    result = run("map", "-c", "item", here, "--journal", str(journal), stdin=numbers(6))
    assert result.returncode == 2 and str(journal) in result.stderr and result.stdout == ""


def test_what_an_error_means(run, code, here, lines):
    arguments = ("map", "-c", "6 // (item - 2)", here, "--prefetch", "1")
    result = run(*arguments, stdin=numbers(100))
    assert result.returncode == 1 and lines(result)[:2] == [-3, -6] and len(lines(result)) < 99
    assert "no result for item 2: Traceback" in result.stderr
    result = run(*arguments, "--on-error", "skip", stdin=numbers(100))
    assert result.returncode == 1 and len(lines(result)) == 99
    result = run(*arguments, "--on-error", "line", stdin=numbers(100))
    assert result.returncode == 1 and len(lines(result)) == 100
    error = lines(result)[2]["$error"]
    assert error["type"] == "ZeroDivisionError" and error["traceback"].startswith("Traceback")
    result = run(*arguments, "--on-error", "line", "--tag", stdin=numbers(3))
    assert lines(result)[2]["index"] == 2 and lines(result)[2]["error"]["type"] == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "said"),
    [
        ([], "", 2, "there is no function"),
        (["code.py"], "", 2, "write code.py:FUNCTION"),
        (["-c", "item", "--input", "/no/such/file"], "", 2, "cannot read `/no/such/file`"),
        (["-c", "item", "--timeout", "0"], "", 2, "no number of seconds"),
        (["-c", "item", "-m", "1a;"], "", 2, "no name of a module"),
        (["-c", "item"], "1\n{'a'}\n3\n", 2, "line 2 of the input is no JSON: key must be a string at column 2"),
        (["-c", "item"], '{"$bytes": 1}\n', 2, "line 1 of the input is no item"),
        (["-c", "item"], '{"$set": [[]]}\n', 2, "line 1 of the input: item 0 cannot be sent"),
        (["-c", "item +"], "1\n", 1, "SyntaxError"),
        (["no_such_module:f"], "1\n", 1, "no_such_module"),
        (["-c", "item", "popen//python=no-such-python"], "1\n", 3, "there is no interpreter"),
    ],
)
def test_mistakes(run, arguments, stdin, code, said):
    result = run("map", *arguments, stdin=stdin)
    assert result.returncode == code
    assert said in result.stderr


def test_what_came_before_a_mistake_is_finished(run, here, lines):
    result = run("map", "-c", "item", here, stdin="1\n2\nx\n3\n")
    assert (result.returncode, lines(result)) == (2, [1, 2])


def test_an_item_that_kills_workers(run, code, here, lines):
    result = run("map", f"{code}:seventh_dies", f"{here}*2", "--retries", "1", "--on-error", "line", stdin=numbers(20))
    assert result.returncode == 4
    assert [line for line in lines(result) if isinstance(line, int)] == [number for number in range(20) if number != 7]
    assert lines(result)[7]["$error"]["type"] == "WorkersDied"


def test_an_item_that_takes_too_long(run, code, here, lines):
    result = run("map", f"{code}:take_long", here, "--timeout", "0.2", "--retries", "0", "--on-error", "line", stdin="1\n")
    assert result.returncode == 1 and lines(result)[0]["$error"]["type"] == "TimeoutError"


def test_results_come_while_the_input_goes_on(here):
    """The first result is there before the second item is given."""
    command = [shell.COMMAND, "map", "-c", "item + 1", here]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=shell.environment()) as process:
        for number in range(3):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{number + 1}\n"
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def test_progress_at_a_terminal(here, marks, tmp_path):
    folder, function = marks
    file = tmp_path / "items"
    file.write_text(numbers(6))
    arguments = ("map", function, f"{here}*2", "--input", str(file))
    with shell.Terminal(*arguments, piped=True, MARKS=str(folder), SECONDS="0.3") as terminal:
        terminal.wait_for("/6")
        terminal.wait_for("left")
        terminal.wait_for("gw0 up, gw1 up")
        terminal.wait_for("gw0 up: 2")
        assert terminal.wait() == 0
        assert terminal.stdout.read() == numbers(6).encode()
    assert "/s" in terminal.seen


def test_a_worker_that_hangs_is_shown(here, marks, tmp_path):
    folder, function = marks
    file = tmp_path / "items"
    file.write_text(numbers(3))
    arguments = ("map", function, f"{here}//id=only", "--input", str(file))
    with shell.Terminal(*arguments, piped=True, MARKS=str(folder), SECONDS="0.5") as terminal:
        terminal.wait_for("only up")
        wait_until(lambda: begun(folder) != [])
        worker = int((folder / "0").read_text())
        os.kill(worker, signal.SIGSTOP)
        try:
            terminal.wait_for("only silent for")
        finally:
            os.kill(worker, signal.SIGCONT)
        assert terminal.wait() == 0
        assert terminal.stdout.read() == numbers(3).encode()


def test_a_worker_that_is_replaced_is_shown(here, marks, tmp_path):
    folder, function = marks
    file = tmp_path / "items"
    file.write_text(numbers(4))
    arguments = ("map", function, f"{here}//id=first", "--input", str(file))
    with shell.Terminal(*arguments, piped=True, MARKS=str(folder), SECONDS="0.7") as terminal:
        wait_until(lambda: begun(folder) != [])
        os.kill(int((folder / "0").read_text()), signal.SIGKILL)
        terminal.wait_for("up (for first)")
        assert terminal.wait() == 0
        assert terminal.stdout.read() == numbers(4).encode()


def test_no_progress_where_nobody_looks(run, here):
    assert run("map", "-c", "item", here, stdin=numbers(5)).stderr == ""


def test_insights_are_told_in_the_end(run, here):
    result = run("map", "-c", "1 // item", f"{here}*2", "--insights", "--on-error=skip", "--prefetch=1", stdin=numbers(9))
    assert "no result for item 0" in result.stderr
    head, *rows = result.stderr.splitlines()[-3:]
    assert head.split() == ["gateway", "done", "failed", "restarts", "start", "wait", "work"]
    columns = list(zip(*(row.split() for row in rows), strict=True))
    assert columns[0] == ("gw0", "gw1")
    assert [sum(map(int, column)) for column in columns[1:4]] == [8, 1, 0]
    assert all(float(seconds) >= 0 for column in columns[4:] for seconds in column)


@pytest.mark.parametrize(("name", "command"), shell.commands())
def test_ctrl_c_once_finishes_what_was_begun(here, marks, tmp_path, name, command):
    folder, function = marks
    file = tmp_path / "items"
    file.write_text(numbers(1000))
    arguments = ("map", function, f"{here}*2", "--prefetch", "1", "--input", str(file))
    with shell.Terminal(*arguments, piped=True, command=command, MARKS=str(folder), SECONDS="0.1") as terminal:
        assert terminal.stdout.readline() == b"0\n"
        terminal.press(shell.CTRL_C)
        terminal.wait_for("finishing what workers have been given")
        assert terminal.wait() == 130
        results = [0, *map(int, terminal.stdout.read().split())]
    assert results == begun(folder) and len(results) < 1000


@pytest.mark.parametrize(("name", "command"), shell.commands())
def test_ctrl_c_twice_ends_at_once(here, marks, tmp_path, name, command):
    folder, function = marks
    file = tmp_path / "items"
    file.write_text(numbers(1000))
    arguments = ("map", function, f"{here}*2", "--input", str(file))
    with shell.Terminal(*arguments, command=command, MARKS=str(folder), SECONDS="600") as terminal:
        wait_until(lambda: terminal.wait_for("up") or len(begun(folder)) == 2)
        workers = [int(path.read_text()) for path in folder.iterdir()]
        terminal.press(shell.CTRL_C)
        terminal.wait_for("press Ctrl-C again")
        assert all(map(is_running, workers))
        terminal.press(shell.CTRL_C)
        assert terminal.wait() == 130
    wait_until_gone(*workers)
    assert "Traceback" not in terminal.seen


def test_a_signal_that_asks_to_end_does_not_wait(here, marks):
    folder, function = marks
    command = [shell.COMMAND, "map", function, here]
    environment = shell.environment(MARKS=str(folder), SECONDS="600")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        process.stdin.write("1\n")
        process.stdin.flush()
        wait_until(lambda: begun(folder) == [1])
        worker = int((folder / "1").read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 130
    wait_until_gone(worker)


def test_ctrl_c_drains_over_ssh_too(sshd, marks, tmp_path):
    """The shared connection is in our process group, where an interrupt from the terminal reaches it."""
    folder, function = marks
    file = tmp_path / "items"
    file.write_text(numbers(1000))
    spec = f"ssh=farexec-host//ssh_config={sshd.config}//env:MARKS={folder}//env:SECONDS=0.1"
    with shell.Terminal("map", function, f"{spec}*2", "--prefetch", "1", "--input", str(file), piped=True) as terminal:
        assert terminal.stdout.readline() == b"0\n"
        terminal.press(shell.CTRL_C)
        assert terminal.wait() == 130
        results = [0, *map(int, terminal.stdout.read().split())]
    assert results == begun(folder) and len(results) < 1000
