"""`Group.map`: every item has one result, whatever becomes of the workers."""

import itertools
import os
import signal
import sys
import threading
import time

import pytest

import farexec
from processes import is_running


def square(number):
    return number * number


def pid_after(seconds):
    import os
    import time

    time.sleep(seconds)
    return os.getpid()


def die_at_seven(number):
    import os

    if number == 7:
        os._exit(7)
    return number


@pytest.fixture
def workers(group):
    for _ in range(2):
        group.makegateway()
    return group


def test_results_come_in_order_or_as_they_are_ready(workers):
    assert list(workers.map(square, range(1000))) == [number * number for number in range(1000)]
    assert sorted(workers.map(square, range(1000), ordered=False)) == [number * number for number in range(1000)]
    assert list(workers.map(square, [])) == []


def test_a_slow_item_holds_up_nobody_who_wants_no_order(workers):
    first = next(workers.map(pid_after, [1, 0, 0], ordered=False))
    began = time.monotonic()
    results = workers.map(pid_after, [3, 0, 0, 0, 0], ordered=False)
    assert [next(results) for _ in range(2)] and time.monotonic() - began < 2.5
    assert first in [gateway.pid for gateway in workers]


def test_several_arguments_and_functions_by_name(workers):
    def power(base, exponent=1):
        return base**exponent

    assert list(workers.map(power, [2, 3, 4], itertools.count(1))) == [2, 9, 64]
    assert list(workers.map("math:factorial", [5])) == [120]
    assert list(workers.map(len, ["abc"])) == [3]


def test_what_cannot_be_called_there_is_refused_here(workers):
    outside = 1

    def closure(number):
        return number + outside

    with pytest.raises(ValueError, match="closures"):
        workers.map(closure, [1])
    with pytest.raises(ValueError, match="lambda"):
        workers.map(lambda number: number, [1])
    with pytest.raises(ValueError, match="module:name"):
        workers.map("square", [1])
    with pytest.raises(ValueError, match="at least one iterable"):
        workers.map(square)
    with pytest.raises(ValueError, match="retries is 0 or more"):
        workers.map(square, [1], retries=-1)
    with pytest.raises(ValueError, match="prefetch is 1 or more"):
        workers.map(square, [1], prefetch=0)
    with pytest.raises(ValueError, match="max_pending is 1 or more"):
        workers.map(square, [1], max_pending=0)
    with pytest.raises(TypeError, match="progress is a function or True"):
        workers.map(square, [1], progress=1)
    with pytest.raises(ValueError, match="on_error"):
        workers.map(square, [1], on_error="ignore")
    with pytest.raises(RuntimeError, match="no workers"):
        farexec.Group().map(square, [1])


def test_a_function_that_is_not_there_is_an_error_of_all(workers):
    with pytest.raises(farexec.RemoteError, match="no_such_module"):
        list(workers.map("no_such_module:f", range(10)))


def test_errors_name_the_line_and_others_go_on(workers):
    def inverse(number):
        return 1 / number

    results = workers.map(inverse, [1, 0, 2])
    assert next(results) == 1
    with pytest.raises(farexec.RemoteError) as caught:
        next(results)
    assert caught.value.type_name == "ZeroDivisionError"
    assert [frame[2] for frame in caught.value.frames] == ["inverse"]
    assert caught.value.frames[0][0] == __file__ and "return 1 / number" in str(caught.value)
    assert list(results) == [0.5]
    error, result = workers.map(inverse, [0, 4], on_error="return")
    assert isinstance(error, farexec.RemoteError) and result == 0.25


def test_results_that_cannot_be_sent_are_errors(workers):
    def thing(number):
        return object() if number == 1 else number

    zero, error, two = workers.map(thing, range(3), on_error="return")
    assert (zero, two) == (0, 2) and "DumpError" in str(error) and "object" in str(error)


def test_items_that_cannot_be_sent_are_told_here(workers):
    results = workers.map(square, [1, object(), 3])
    with pytest.raises(farexec.DumpError, match="item 1 cannot be sent"):
        list(results)


def test_items_are_taken_as_there_is_room_for_them(workers):
    taken = []

    def items():
        for number in itertools.count():
            taken.append(number)
            yield number

    results = workers.map(square, items(), max_pending=8)
    assert [next(results) for _ in range(100)] == [number * number for number in range(100)]
    assert 100 <= len(taken) <= 100 + 8


def test_a_slow_item_lets_no_more_results_wait_than_may(workers):
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield 0.5 if number == 0 else 0

    results = workers.map(pid_after, items(), max_pending=50)
    next(results)
    assert len(taken) == 50
    assert len(list(results)) == 999 and len(taken) == 1000


def test_an_error_of_the_items_is_passed_on_and_loses_nothing(workers):
    def items():
        yield from range(5)
        raise KeyError("no more")

    got = []
    with pytest.raises(KeyError, match="no more"):
        for result in workers.map(square, items(), prefetch=2):
            got.append(result)
    assert got == [0, 1, 4, 9, 16][: len(got)]


def test_nothing_is_lost_while_workers_die():
    """A batch was lost as a whole when a worker died; and results came twice when it was repeated."""
    with farexec.Group(["popen"] * 4) as group:
        over = threading.Event()

        def kill():
            for turn in itertools.count():
                if over.wait(0.15):
                    return
                members = list(group)
                os.kill(members[turn % len(members)].pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            results = list(group.map(pid_after, [0.005] * 600, retries=20))
        finally:
            over.set()
            killer.join()
        assert len(results) == 600 and len(set(results)) > 4
        assert len(group) == 4 and not any(map(is_running, set(results) - {member.pid for member in group}))


def test_an_item_that_kills_every_worker_is_given_up(workers):
    died = []
    results = workers.map(die_at_seven, range(10), retries=2, on_error="return")
    got = list(results)
    died = [result for result in got if isinstance(result, Exception)]
    assert [result for result in got if not isinstance(result, Exception)] == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert isinstance(died[0], farexec.WorkersDied) and len(died) == 1
    assert "item 7" in str(died[0]) and "3 workers died" in str(died[0]) and "exited with status 7" in str(died[0])
    assert len(workers) == 2


def test_without_replacements_it_ends_when_nobody_is_left(workers):
    with pytest.raises((farexec.StartError, RuntimeError), match="no worker"):
        list(workers.map(die_at_seven, [7] * 5, retries=9, replace=False))


def test_an_item_that_takes_too_long_is_ended(workers):
    results = workers.map(pid_after, [0, 60, 0], timeout=1, on_error="return")
    before, error, after = results
    assert isinstance(error, farexec.TimeoutError) and "item 1" in str(error)
    assert isinstance(before, int) and isinstance(after, int) and len(workers) == 2


def test_gateways_join_while_it_runs(workers):
    results = workers.map(pid_after, [0.02] * 60, ordered=False, prefetch=2)
    pids = {next(results)}
    late = workers.makegateway()
    pids.update(results)
    assert late.pid in pids and len(pids) == 3


def test_a_gateway_that_is_asked_to_leave_hands_on_what_it_has(workers):
    results = workers.map(square, range(2000), prefetch=100)
    got = [next(results)]
    workers[0].exit()
    got.extend(results)
    assert got == [number * number for number in range(2000)]


def test_it_ends_if_all_gateways_leave(workers):
    """It waited for ever if nothing was under way just then."""
    results = workers.map(square, itertools.count(), max_pending=1)
    assert next(results) == 0
    for gateway in workers:
        gateway.exit()
        gateway.join()
    with pytest.raises(RuntimeError, match="no workers"):
        list(results)
    late = workers.makegateway()
    assert next(results) == 1 and late.alive


def test_two_at_once_do_not_advance_it(workers):
    def items():
        yield next(results)

    results = workers.map(square, items())
    with pytest.raises(ValueError, match="already"):
        next(results)


def test_every_interpreter_works(group, python):
    group.makegateway(f"popen//python={python}")
    assert list(group.map(square, range(50))) == [number * number for number in range(50)]
    text = list(group.map("os.path:basename", ["/tmp/ä"]))
    assert text[0] in ("ä", "ä".encode().decode("latin-1"))


def test_one_that_is_left_behind_leaves_workers_free(workers):
    results = workers.map(square, itertools.count())
    next(results)
    del results
    assert workers[0].remote_exec("channel.send(1)").receive(5) == 1
    assert list(workers.map(square, [3])) == [9]


def test_progress_is_told_when_there_is_news_and_in_the_end(workers):
    def inverse(number):
        return 1 / number

    told = []
    results = workers.map(inverse, range(500), on_error="return", progress=told.append)
    assert results.progress[:4] == (0, 0, 0, 500)
    assert [worker.id for worker in results.progress.workers] == ["gw0", "gw1"]
    assert len(list(results)) == 500
    last = told[-1]
    assert last == results.progress
    assert (last.done, last.failed, last.running, last.total) == (499, 1, 0, 500)
    assert sum(worker.done for worker in last.workers) == 499 and sum(worker.failed for worker in last.workers) == 1
    counts = [progress.done + progress.failed for progress in told]
    assert counts == sorted(counts)


def test_the_time_of_workers_is_told(workers):
    results = workers.map(pid_after, iter([0.3, 0.3]), prefetch=1)
    assert results.progress.total is None
    list(results)
    assert results.progress.total == 2
    for worker in results.progress.workers:
        assert worker.work >= 0.3 and worker.wait >= 0 and worker.start >= 0


def test_a_successor_counts_what_the_lost_worker_did(group, tmp_path):
    def work(number, mark):
        import os
        import time

        time.sleep(0.01)
        if number == 5 and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), 9)

    group.makegateway("popen//id=first")
    started = time.monotonic()
    results = group.map(work, range(10), [str(tmp_path / "mark")] * 10, prefetch=1)
    list(results)
    passed = time.monotonic() - started
    progress = results.progress
    [worker] = progress.workers
    assert (worker.id, worker.done, worker.failed, worker.restarts) == (group[0].id, 10, 0, 1)
    assert worker.id != "first"
    # The item that it died at counts for the work of both, and nothing was done while there was no worker.
    assert 0.11 <= worker.work <= passed - worker.wait
    assert worker.start > 0
    assert results.progress == progress


def test_progress_is_told_while_nothing_comes(workers):
    told = []
    results = workers.map(pid_after, [0, 0, 0, 1], prefetch=1, progress=lambda progress: told.append((progress.done, progress.running)))
    list(results)
    assert (3, 1) in told and told[-1] == (4, 0)


def test_an_error_of_who_is_told_is_passed_on_and_loses_nothing(workers):
    def told(progress):
        if progress.running and not failed:
            failed.append(progress)
            raise KeyError("the display is gone")

    failed = []
    results = workers.map(pid_after, [0.3] * 4, progress=told)
    with pytest.raises(KeyError, match="the display is gone"):
        next(results)
    assert len(list(results)) == 4


def test_a_bar_is_drawn_by_tqdm(workers, capsys):
    pytest.importorskip("tqdm")
    assert len(list(workers.map(square, range(100), progress=True))) == 100
    assert "100/100" in capsys.readouterr().err


def test_without_tqdm_it_is_said_how_to_get_it(workers, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        workers.map(square, [1], progress=True)
