"""What must hold of workers at another place, beside the tests that `--spec` takes there: that they are."""

import os


def test_the_worker_is_not_our_child(gateway):
    assert gateway.remote_exec("import os; channel.send(os.getppid())").receive(10) != os.getpid()
