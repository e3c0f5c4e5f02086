"""Sends what a worker prints to its coordinator: what `stdout=forward`, and `stderr=forward` behind a relay or a socket, execute.

It is sent a channel, over which it answers with lists of a descriptor's number and bytes that were written to it, by the interpreter,
by libraries or by processes it has started. Runs on Python 2.7 and 3.6 or newer, without anything but the standard library.
"""

CHUNK = 1 << 16
LAST_WORDS = 1.0  # seconds that what was printed at the end may take


def forward(channel, descriptors):
    import atexit
    import fcntl
    import os
    import sys
    import threading

    written = channel.receive()
    kept = {}  # descriptor -> a duplicate of what it was
    pumps = []

    def private(descriptor):
        fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.fcntl(descriptor, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)
        return descriptor

    def pump(number, reading):
        while True:
            data = os.read(reading, CHUNK)
            if not data:
                return
            try:
                channel.gateway.send_last_words(written, [number, data])
            except (IOError, OSError):
                os.write(kept[number], data)

    def flush():
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, IOError, OSError, ValueError):
                pass

    def restore():
        flush()
        for number in kept:
            os.dup2(kept[number], number)
        for thread in pumps:
            thread.join(LAST_WORDS)

    flush()
    for number in descriptors:
        kept[number] = private(os.dup(number))
        reading, writing = os.pipe()
        os.dup2(writing, number)
        os.close(writing)
        thread = threading.Thread(target=pump, args=(number, private(reading)))
        thread.daemon = True
        thread.start()
        pumps.append(thread)
    atexit.register(restore)
