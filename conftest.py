"""What all tests want of the process that they run in, those of the package and those of the harness in bench/."""

import signal


def pytest_configure():
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what it runs in the background so, and every program that a test starts would have it too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
