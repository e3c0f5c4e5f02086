"""A worker forked from a template is what an interpreter started for it would be, and a template is never in anybody's way."""

import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest

import farexec
from processes import wait_until, wait_until_gone

TEMPLATE, SPAWN = "popen//start=template", "popen//start=spawn"
PARENT = "import os; channel.send(os.getppid())"


def template_of(gateway):
    """The process id of the template that forked the gateway's worker."""
    pid = gateway.remote_exec(PARENT).receive()
    assert pid != os.getpid(), "it was not forked from a template"
    return pid


def look(channel):
    """Sends everything that a process can tell of itself, but what is its own: numbers and times."""
    import gc
    import locale
    import os
    import resource
    import signal
    import sys

    with open("/proc/self/status") as lines, open("/proc/self/cmdline") as words:
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        command = words.read()
    here = "/proc/self/fd/"
    links = {number: os.readlink(here + number) for number in os.listdir(here) if os.path.exists(here + number)}
    umask = os.umask(0)
    os.umask(umask)
    channel.send(
        {
            "environment": dict(os.environ),
            "environment of children": sorted(os.popen("env").read().splitlines()),
            "directory": os.getcwd(),
            "umask": umask,
            "limits": [resource.getrlimit(number) for number in range(16)],
            "niceness": os.nice(0),
            "processors": os.sched_getaffinity(0),
            # But for two that are the C library's own, of which posix_spawn leaves one ignored in what it starts, this program perhaps.
            "signals": [int(status[name], 16) & ~(3 << 31) for name in ("SigBlk", "SigIgn", "SigCgt")],
            "handlers": {str(number): str(signal.getsignal(number)).partition(" at ")[0] for number in signal.valid_signals()},
            "descriptors": sorted(links),
            "standard input": links["0"],
            "name": status["Name"].strip(),
            "groups": [status[name].strip() for name in ("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp")],
            "leads its group": os.getpgrp() == os.getpid(),
            "session": os.getsid(0),
            "threads": int(status["Threads"]),
            "command line": command.partition("\0")[0],
            "sys": [sys.path, sys.argv, list(sys.flags), sys.executable, sys.dont_write_bytecode, sys._xoptions, sys.warnoptions],
            "streams": [(s.encoding, s.errors, s.line_buffering, s.fileno(), s.isatty()) for s in (sys.stdin, sys.stdout, sys.stderr)],
            "locale": [locale.setlocale(locale.LC_ALL), sys.getfilesystemencoding()],
            "collector": [gc.isenabled(), gc.get_threshold()],
            "main": sorted(name for name in vars(sys.modules["__main__"]) if name != "__file__"),
        }
    )


@pytest.fixture
def compare(group, worker_python):
    """A function that checks that workers from a template, whatever it started as, and in an interpreter of their own see the same."""
    if sys.version_info < (3, 10) or not os.path.samefile(worker_python, sys.executable):
        pytest.skip("looks with what newer interpreters have")
    group.makegateway(TEMPLATE)

    def compared(addition=""):
        made = [group.makegateway(spec + addition).remote_exec(look).receive() for spec in (TEMPLATE, SPAWN)]
        for name in made[0]:
            assert made[0][name] == made[1][name], name
        return made[0]

    return compared


def test_nothing_differs_from_an_interpreter_of_its_own(compare):
    """Workers that were forked had the environment, the handlers or the descriptors of what they were forked from."""
    seen = compare()
    assert seen["threads"] == 2 and seen["standard input"] == "/dev/null"


def test_the_environment_is_the_present_one(compare, monkeypatch):
    """A variable that was set after the first worker did not reach the next one."""
    monkeypatch.setenv("FAREXEC_TEST", "one")
    assert compare()["environment"]["FAREXEC_TEST"] == "one"
    monkeypatch.setenv("FAREXEC_TEST", "two\nlines=")
    seen = compare("//env:FAREXEC_OTHER=three")
    assert seen["environment"]["FAREXEC_TEST"] == "two\nlines=" and seen["environment"]["FAREXEC_OTHER"] == "three"
    monkeypatch.delenv("FAREXEC_TEST")
    assert "FAREXEC_TEST" not in compare()["environment"]


@pytest.mark.parametrize("variable", ["PYTHONPATH=/somewhere", "PYTHONDEVMODE=1", "LC_ALL=C", "PYTHONOPTIMIZE=2", "HOME=/", "PYTHONPATH=."])
def test_variables_that_count_at_the_start_count(compare, variable):
    """PYTHONPATH, or the locale, changed nothing any more in a process that had started before."""
    name, value = variable.split("=")
    assert compare(f"//env:{variable}")["environment"][name] == value


def test_the_time_zone_is_the_present_one(group, monkeypatch):
    group.makegateway(TEMPLATE)
    monkeypatch.setenv("TZ", "Etc/GMT-7")
    source = "import time; channel.send(time.strftime('%z'))"
    assert group.makegateway(TEMPLATE).remote_exec(source).receive() == "+0700"


def test_the_directory_is_the_present_one(compare, monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(tmp_path)
    assert compare()["directory"] == str(tmp_path)
    assert compare(f"//chdir={tmp_path}/made")["directory"] == f"{tmp_path}/made"
    assert compare("//chdir=relative")["directory"] == f"{tmp_path}/relative"


def test_umask_limits_niceness_and_processors_are_the_present_ones(compare):
    """A umask of 077 that a program set after the first worker was not that of the next, whose files all could read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = os.umask(0o77), os.sched_getaffinity(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    os.sched_setaffinity(0, {min(before[1])})
    try:
        seen = compare("//nice=3")
        assert seen["umask"] == 0o77 and seen["niceness"] == os.nice(0) + 3
        assert seen["limits"][resource.RLIMIT_NOFILE] == (soft - 1, hard) and seen["processors"] == {min(before[1])}
    finally:
        os.umask(before[0])
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.sched_setaffinity(0, before[1])
    assert compare()["umask"] == before[0]


def test_ignored_signals_are_the_present_ones(compare):
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1)]
    try:
        compare()
    finally:
        for number, handler in zip((signal.SIGHUP, signal.SIGINT, signal.SIGUSR1), before, strict=True):
            signal.signal(number, handler)
    compare()


def test_whatever_the_program_has_open_is_not_there(group):
    """A pipe that a worker held open without knowing was never at its end."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    group.makegateway(TEMPLATE)
    gateway = group.makegateway(TEMPLATE)
    gateway.remote_exec("pass").waitclose()
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_other_privileges_are_not_those_of_a_template_from_before(tmp_path):
    """A program that gives up its privileges does not expect workers that have them."""
    if os.getuid() != 0:
        pytest.skip("only root can become another")
    program = """
import os, farexec
group = farexec.Group(["popen//start=template"])
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
group.makegateway("popen//start=template//python=/usr/bin/env python3")
who = "import os; channel.send([os.getresuid()[0], os.getresgid()[0], os.getgroups(), os.getppid()])"
print([gateway.remote_exec(who).receive()[:3] for gateway in group])
"""
    program = program.replace("/usr/bin/env python3", "/usr/bin/python3")
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd="/")
    said = ended.stdout + ended.stderr
    if "PermissionError" in said or "Permission denied" in said:
        pytest.skip("nobody cannot run the interpreter here")
    assert "[65534, 65534, []]]" in said, said


def test_random_numbers_differ(group):
    """Forked processes drew the same random numbers."""
    spec = TEMPLATE + "//preload=random,uuid"
    draw = "import random, uuid; channel.send((random.random(), random.SystemRandom().random(), uuid.uuid4().hex, uuid.uuid1().hex))"
    drawn = [group.makegateway(spec).remote_exec(draw).receive() for _ in range(3)]
    for column in zip(*drawn, strict=True):
        assert len(set(column)) == 3


def test_random_numbers_of_numpy_differ(group):
    pytest.importorskip("numpy")
    spec = TEMPLATE + "//preload=numpy"
    draw = "import numpy; channel.send(float(numpy.random.random()))"
    assert len({group.makegateway(spec).remote_exec(draw).receive() for _ in range(3)}) == 3


def test_the_seed_of_hashes_is_what_was_asked_for(group):
    """Workers of one template have the same seed, so that a given one has to have a template of its own."""
    draw = "channel.send(hash('farexec'))"
    seeds = "", "//env:PYTHONHASHSEED=1", "//env:PYTHONHASHSEED=2"
    drawn = [group.makegateway(TEMPLATE + seed).remote_exec(draw).receive() for seed in seeds]
    assert len(set(drawn)) == 3
    assert group.makegateway(SPAWN + "//env:PYTHONHASHSEED=1").remote_exec(draw).receive() == drawn[1]


def test_what_is_preloaded_is_there(group, tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text(f"open({str(tmp_path / 'imports')!r}, 'a').write('x')\nprint('imported')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    source = "import sys; channel.send('slow' in sys.modules and 'json' in sys.modules)"
    for start, imports in ((TEMPLATE, "x"), (SPAWN, "xxx")):
        (tmp_path / "imports").write_text("")
        for _ in range(3):
            assert group.makegateway(f"{start}//preload=slow,json").remote_exec(source).receive() is True
        assert (tmp_path / "imports").read_text() == imports


def test_preloaded_modules_keep_what_they_set_up(group, tmp_path, monkeypatch):
    """The template collects no garbage while it imports, and chooses numbers for its workers' descriptors: modules may have done either."""
    (tmp_path / "busy.py").write_text(
        "import fcntl, gc, os\n"
        "gc.set_threshold(4321, 7, 3)\n"
        "file = os.open(__file__, os.O_RDONLY)\n"
        "high = [fcntl.fcntl(file, fcntl.F_DUPFD, 200) for _ in range(3)]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    gateway = group.makegateway(TEMPLATE + "//preload=busy")
    source = "import gc, os, busy; channel.send((gc.get_threshold(), b''.join(os.pread(n, 6, 0) for n in busy.high)))"
    assert gateway.remote_exec(source).receive() == ((4321, 7, 3), b"import" * 3)


def test_preload_can_be_said_by_a_variable(group, monkeypatch):
    """So that a test suite shares its imports without a change to how it starts its workers."""
    monkeypatch.setenv("FAREXEC_PRELOAD", "json, xml.dom")
    source = "import sys; channel.send([name in sys.modules for name in ('json', 'xml.dom')])"
    assert group.makegateway().remote_exec(source).receive() == [True, True]
    assert group.makegateway("popen//preload=").remote_exec(source).receive() == [False, False]
    monkeypatch.setenv("FAREXEC_PRELOAD", "import json")
    with pytest.raises(farexec.StartError, match="FAREXEC_PRELOAD is `import json`"):
        group.makegateway()


@pytest.mark.parametrize("start", [TEMPLATE, SPAWN])
def test_a_module_that_cannot_be_preloaded_is_named(group, start):
    with pytest.raises(farexec.StartError, match="cannot preload no_such_module: ModuleNotFoundError"):
        group.makegateway(f"{start}//preload=json,no_such_module")
    assert len(group) == 0
    group.makegateway(start)


def test_a_module_that_starts_a_thread_is_refused(group, tmp_path, monkeypatch):
    """The thread would not be there in any worker, and what it holds would be held for ever."""
    (tmp_path / "busy.py").write_text("import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(farexec.StartError, match="cannot preload busy: that starts a thread"):
        group.makegateway(TEMPLATE + "//preload=busy")


def test_threads_of_the_program_do_not_matter(group):
    """A fork of a program with threads deadlocks now and then: the template is another process, which has none."""
    stop = threading.Event()
    threads = [threading.Thread(target=lambda: [None for _ in iter(stop.is_set, True)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        channels = [group.makegateway(TEMPLATE).remote_exec("channel.send(1)") for _ in range(10)]
        assert [channel.receive() for channel in channels] == [1] * 10
        tasks = f"import os; channel.send(len(os.listdir('/proc/{template_of(group[0])}/task')))"
        assert group[0].remote_exec(tasks).receive() == 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_gateways_can_be_made_in_threads_at_once(group):
    made = []

    def make():
        made.extend(group.makegateway(TEMPLATE).remote_exec("channel.send(1)").receive() for _ in range(10))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1] * 80


def test_workers_of_a_killed_template_go_on(group):
    gateway = group.makegateway(TEMPLATE)
    template = template_of(gateway)
    channel = gateway.remote_exec("for item in channel: channel.send(item)")
    os.kill(template, signal.SIGKILL)
    wait_until_gone(template)
    channel.send(1)
    assert channel.receive() == 1
    # The next worker has another template.
    assert group.makegateway(TEMPLATE).remote_exec("channel.send(1)").receive() == 1
    # How a worker ended that nobody waited for cannot be known; that it ended is noticed as ever.
    gateway.remote_exec("import os; os._exit(7)")
    gateway.join(20)
    assert not gateway.alive and gateway.returncode is None
    assert "could not be learned" in gateway.end_reason


def test_a_killed_template_keeps_nothing_from_being_killed(group):
    gateway = group.makegateway(TEMPLATE)
    source = "import subprocess, time; channel.send(subprocess.Popen(['sleep', '600']).pid)\nwhile True: time.sleep(1)"
    template = template_of(gateway)
    child = gateway.remote_exec(source).receive()
    os.kill(template, signal.SIGKILL)
    wait_until_gone(template)
    group.terminate(timeout=0.2)
    wait_until_gone(gateway.pid, child)


def test_a_stopped_template_is_given_up(group):
    """A template that does not answer would keep every start waiting."""
    template = template_of(group.makegateway(TEMPLATE))
    os.kill(template, signal.SIGSTOP)
    began = time.monotonic()
    gateway = group.makegateway(TEMPLATE)
    assert time.monotonic() - began > 4
    assert gateway.remote_exec("channel.send(1)").receive() == 1
    wait_until_gone(template)
    assert gateway.remote_exec(PARENT).receive() == os.getpid()
    assert template_of(group.makegateway(TEMPLATE)) != template


def test_workers_end_while_their_template_is_stopped(group):
    """A worker is its template's child: who waits for it must not wait for the template."""
    gateway = group.makegateway(TEMPLATE)
    template = template_of(gateway)
    os.kill(template, signal.SIGSTOP)
    try:
        gateway.remote_exec("import os; os._exit(7)")
        gateway.join(20)
        assert gateway.returncode == 7 and "exited with status 7" in gateway.end_reason
    finally:
        os.kill(template, signal.SIGCONT)


def test_exits_are_told_as_of_any_process(group):
    for death, code in (("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", -9), ("os.abort()", -6)):
        gateway = group.makegateway(TEMPLATE)
        gateway.remote_exec(f"import os; {death}")
        gateway.join(20)
        assert gateway.returncode == code


def test_no_zombie_stays(group):
    gateways = [group.makegateway(TEMPLATE) for _ in range(5)]
    pids = [gateway.pid for gateway in gateways]
    group.terminate(timeout=10)
    wait_until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids))


def test_a_template_ends_some_seconds_after_its_last_worker(group):
    shared = []
    for _ in range(5):  # one after the other within those seconds, but for a machine that is very slow now and then
        templates = []
        for _ in range(2):
            templates.append(template_of(group.makegateway(TEMPLATE)))
            group.terminate(timeout=10)
        shared.append(templates[0] == templates[1])
    assert any(shared)
    wait_until_gone(*templates, seconds=60)


@pytest.mark.parametrize("number", [0, signal.SIGTERM, signal.SIGKILL])
def test_a_template_ends_with_the_program(number):
    program = """
import farexec, os
gateway = farexec.makegateway("popen//start=template")
print(gateway.pid, gateway.remote_exec("import os; channel.send(os.getppid())").receive(), flush=True)
input()
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in process.stdout.readline().split()]
    if number:
        process.send_signal(number)
    process.communicate("\n", timeout=20)
    assert process.returncode == -number
    wait_until_gone(*pids)


def test_a_fork_of_the_program_has_a_template_of_its_own():
    """After a fork, parent and child asked the same template, and each got the other's workers."""
    program = """
import farexec, os
parent = "import os; channel.send(os.getppid())"
group = farexec.Group(["popen//start=template"])
first = group[0].remote_exec(parent).receive()
pid = os.fork()
own = farexec.Group(["popen//start=template"])
second = own[0].remote_exec(parent).receive()
assert (first == second) == (pid != 0)
own.terminate(timeout=5)
if pid == 0:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert group[0].remote_exec(parent).receive() == first
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_interpreter_that_was_upgraded_has_a_new_template(group, tmp_path):
    """Workers would be of a version that is not there any more, and miss its files."""
    interpreter = tmp_path / "bin" / "python3"
    interpreter.parent.mkdir()
    (tmp_path / "pyvenv.cfg").write_text(f"home = {os.path.dirname(os.path.realpath(sys.executable))}\n")
    interpreter.symlink_to(os.path.realpath(sys.executable))
    spec = f"{TEMPLATE}//python={interpreter}"
    group.makegateway(spec)
    first = template_of(group.makegateway(spec))
    assert template_of(group.makegateway(spec)) == first
    other = tmp_path / "other"
    other.write_bytes(pathlib.Path(os.path.realpath(sys.executable)).read_bytes())
    other.chmod(0o755)
    interpreter.unlink()
    interpreter.symlink_to(other)
    group.makegateway(spec)
    assert template_of(group.makegateway(spec)) != first


def test_every_interpreter_starts_both_ways(group, python):
    """Those that no template is made of (2.7, 3.6, PyPy) are started as ever."""
    for _ in range(3):
        gateway = group.makegateway(f"{TEMPLATE}//python={python}")
        assert gateway.remote_exec("channel.send(channel.receive())").isclosed() is False
    info = gateway._rinfo()
    forks = info.implementation == "cpython" and info.version_info >= (3, 7)
    assert (gateway.remote_exec(PARENT).receive() != os.getpid()) == forks


def test_five_hundred_workers(open_descriptors):
    """Every worker and its template kept descriptors of others, so that the hundredth failed or none ended."""
    with farexec.Group([TEMPLATE]) as group:
        template = template_of(group[0])
        # The program may have too few for so many: four for each gateway.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
        before = open_descriptors(), sorted(os.listdir(f"/proc/{template}/fd"))
        count = "import os; channel.send(len(os.listdir('/proc/self/fd')))"
        alone = group[0].remote_exec(count).receive()
        crowd = farexec.Group([TEMPLATE] * 500)
        assert set(crowd.remote_exec(count).receive_each()) == {alone} and alone < 16
        assert sorted(os.listdir(f"/proc/{template}/fd")) == before[1]
        crowd.terminate(timeout=30)
        wait_until(lambda: open_descriptors() <= before[0])
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_template_says_so_in_the_list_of_processes(group):
    gateway = group.makegateway(TEMPLATE)
    names = [pathlib.Path(f"/proc/{pid}/comm").read_text() for pid in (template_of(gateway), gateway.pid)]
    assert names[0] == "farexec-tmpl\n" and names[1] != names[0]


def test_no_threads(group):
    """A fork in a worker warned that the process has several threads, and may deadlock, though the worker's own was the only other one."""
    for start in (TEMPLATE, SPAWN):
        gateway = group.makegateway(f"{start}//threads=none")
        channel = gateway.remote_exec(
            """
            import os, threading
            channel.send(len(os.listdir("/proc/self/task")))
            channel.send(channel.receive(timeout=20) + 1)
            channel.send(channel.receive() + 1)
            """
        )
        assert channel.receive() == 1
        channel.send(1)
        assert channel.receive() == 2
        # While it waits, it reads, so that it answers.
        assert gateway.remote_status().numexecuting == 1
        channel.send(2)
        assert channel.receive() == 3
        channel.waitclose(20)
        with pytest.raises(farexec.RemoteError, match="threads=none"):
            gateway.remote_exec("channel.setcallback(print)").waitclose(20)
        blocked = gateway.remote_exec("channel.receive()")
        with pytest.raises(farexec.RemoteError, match="threads=none"):
            gateway.remote_exec("pass").waitclose(20)
        blocked.send(1)
        blocked.waitclose(20)
    gateways = list(group)
    group.terminate(timeout=20)
    assert [gateway.returncode for gateway in gateways] == [0, 0]


def test_a_worker_without_threads_ends_with_its_coordinator():
    program = """
import farexec
group = farexec.Group(["popen//threads=none"] * 3)
idle, waiting, computing = group
waiting = waiting.remote_exec("channel.receive()")
computing = computing.remote_exec("channel.send(1)\\nwhile True: pass")
computing.receive()
print(*(gateway.pid for gateway in group), flush=True)
input()
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in process.stdout.readline().split()]
    process.kill()
    process.communicate(timeout=20)
    wait_until_gone(*pids)
