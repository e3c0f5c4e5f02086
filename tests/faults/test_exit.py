"""Programs that start workers, use them, and end, in many ways: each ends, soon, and leaves no process behind.

`--faults=N` runs 4 N of them; a thousand, by hand: `--faults=250`."""

import json
import subprocess
import sys
import textwrap

from processes import wait_until_gone

# A worker with threads=none that does nothing but send does not read that it is to end.
KILLED = "did not end in time and was killed"

# What may be going on when a program ends.
USES = {
    "nothing": "",
    "a stream": "streams = group.remote_exec('while True: channel.send(1)'); streams[0].receive()",
    "a thread that waits": """
        channel = group[0].remote_exec("channel.receive()")
        in_a_thread(channel.receive)
    """,
    "threads that send and receive": """
        for channel in group.remote_exec("while True: channel.send(channel.receive())"):
            in_a_thread(lambda c=channel: [c.send(1) for _ in iter(int, 1)])
            in_a_thread(lambda c=channel: [c.receive() for _ in iter(int, 1)])
        time.sleep(0.01)
    """,
    "a callback": """
        channel = group[0].remote_exec("while True: channel.send(1)")
        channel.setcallback(lambda item: time.sleep(0.001))
        time.sleep(0.01)
    """,
    "a map": "results = group.map('time:sleep', iter(lambda: 0.001, None)); next(results)",
    "calls": """
        in_a_thread(lambda: [group[0].call("os:getpid") for _ in iter(int, 1)])
        time.sleep(0.01)
    """,
    "a child that ends by itself": """
        in_a_thread(group[0].remote_exec("channel.receive()").receive)
        child = os.fork()
        if child == 0:
            sys.exit(0)
        began = time.monotonic()
        assert os.waitpid(child, 0)[1] == 0
        assert time.monotonic() - began < 9, "it waited for its parent's workers"
    """,
    "exit handlers": """
        def call(gateway=group[0]):
            with contextlib.suppress(OSError):
                gateway.call("os:getpid")
        atexit.register(group.terminate, 1)
        atexit.register(call)
    """,
    "a child that was forked": """
        channel = group[0].remote_exec("while True: channel.send(channel.receive())")
        child = os.fork()
        if child == 0:
            try:
                channel.send(1)
            except OSError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        channel.send(2)
        assert channel.receive() == 2
    """,
}

ENDS = {
    "by itself": "",
    "terminated": "group.terminate(timeout=2)",
    "exit": "sys.exit(0)",
    "os._exit": "sys.stdout.flush(); os._exit(0)",
    "an error": "sys.stderr = None; raise SystemExit(0)",
}

PROGRAM = """
import atexit, contextlib, json, os, sys, threading, time, farexec

def in_a_thread(work):
    def works():
        with contextlib.suppress(OSError, EOFError):
            work()
    threading.Thread(target=works, daemon=True).start()

group = farexec.Group(json.loads(sys.argv[1]))
print(json.dumps([gateway.remote_exec("import os; channel.send(os.getpid())").receive() for gateway in group]), flush=True)
"""


def test_a_program_ends(chance, told):
    for _ in range(4):
        use, end = chance.choice(sorted(USES)), chance.choice(sorted(ENDS))
        specs = [chance.choice(["popen", "popen//native=no", "popen//start=spawn", "popen//threads=none"]) for _ in range(2)]
        if use == "a callback":
            specs[0] = "popen"
        told(f"{use}, {end}, {specs}")
        source = PROGRAM + textwrap.dedent(USES[use]) + "\n" + ENDS[end] + "\n"
        done = subprocess.run([sys.executable, "-c", source, json.dumps(specs)], capture_output=True, text=True, timeout=50)
        told_of = [line for line in done.stderr.splitlines() if not (KILLED in line and "popen//threads=none" in specs)]
        assert (done.returncode, told_of) == (0, [])
        wait_until_gone(*json.loads(done.stdout), seconds=20)
