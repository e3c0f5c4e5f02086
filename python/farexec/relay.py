"""Starts a process and carries its standard input and output over a channel: what `via=` executes at the worker in between.

From the coordinator come bytes for the process's input. To it go the bytes of the process's output, in the order they were
written, and at last the exit status as an int; a process that cannot be started is answered with a list of errno and text.
Bytes are passed on as they are. Runs on Python 2.7 and 3.6 or newer, without anything but the standard library.
"""

CHUNK = 1 << 16
GRACE = 3.0  # seconds that a process has to end after its input has


def relay(channel, command, environment):
    import os
    import signal
    import subprocess
    import sys
    import threading
    import time

    if not command[0]:
        command = [sys.executable] + command[1:]
    variables = dict(os.environ)
    variables.update((str(name), str(value)) for name, value in environment.items())
    new_session = {"preexec_fn": os.setsid} if sys.version_info[0] == 2 else {"start_new_session": True}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, close_fds=True, env=variables, **new_session
        )
    except OSError as error:
        channel.send([error.errno or 0, str(error)])
        return

    def feed():
        stdin = process.stdin.fileno()
        try:
            for data in channel:
                while data:
                    data = data[os.write(stdin, data) :]
        except (OSError, EOFError):
            pass
        process.stdin.close()
        deadline = time.time() + GRACE
        while process.poll() is None and time.time() < deadline:
            time.sleep(0.02)
        if process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except OSError:
                pass

    feeder = threading.Thread(target=feed)
    feeder.daemon = True
    feeder.start()
    stdout = process.stdout.fileno()
    try:
        while True:
            data = os.read(stdout, CHUNK)
            if not data:
                break
            channel.send(data)
        channel.send(process.wait())
    except (OSError, EOFError):  # the coordinator is gone, and the feeder sees to the rest
        feeder.join()
