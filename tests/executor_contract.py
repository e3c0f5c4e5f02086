"""CPython's own tests of executors, from its `test` package, run on :class:`farexec.Executor`.

Executed by an interpreter that has that package, with `farexec` and this folder on its path. Prints what was run as JSON.

The functions of those tests are imported by name, as a pool of processes does, since many of them use globals of their modules.
"""

import io
import json
import sys
import time
import types
import unittest

from test.test_concurrent_futures import executor, test_as_completed, test_init, test_shutdown, test_wait, util

import farexec

LEFT_OUT = {
    "test_no_stale_references": "it submits a method of an object of its own, which would have to be pickled",
    "test_free_reference": "its results are objects of a class of its own, which would have to be pickled",
    "test_interpreter_shutdown": "its program imports the executor from concurrent.futures; tests/test_executor.py has the like",
    "test_submit_after_interpreter_shutdown": "as test_interpreter_shutdown",
    "test_hang_gh83386": "as test_interpreter_shutdown",
}


class ByName(farexec.Executor):
    def __init__(self, max_workers=None, initializer=None, initargs=()):
        super().__init__(max_workers, initializer=initializer and by_name(initializer), initargs=initargs)

    def submit(self, fn, /, *args, **kwargs):
        return super().submit(by_name(fn), *args, **kwargs)


def by_name(function):
    return f"{function.__module__}:{function.__name__}" if isinstance(function, types.FunctionType) else function


class Mixin(util.ExecutorMixin):
    executor_type = ByName


class ExecutorTest(Mixin, executor.ExecutorTest, util.BaseTestCase):
    pass


class ShutdownTest(Mixin, test_shutdown.ExecutorShutdownTest, util.BaseTestCase):
    def test_del_shutdown(self):
        """As the tests of pools have it, with a thread that is not theirs."""
        forgotten = ByName(max_workers=5)
        results = forgotten.map(abs, range(-5, 5))
        thread = forgotten._work.thread
        del forgotten
        thread.join()
        self.assertEqual(list(results), [abs(value) for value in range(-5, 5)])

    def test_shutdown_no_wait(self):
        shut = ByName(max_workers=5)
        results = shut.map(abs, range(-5, 5))
        shut.shutdown(wait=False)
        shut._work.thread.join()
        self.assertEqual(list(results), [abs(value) for value in range(-5, 5)])

    def test_context_manager_shutdown(self):
        with ByName(max_workers=5) as within:
            self.assertEqual(list(within.map(abs, range(-5, 5))), [abs(value) for value in range(-5, 5)])
        self.assertFalse(within._work.thread.is_alive())

    def test_cancel_futures_wait_false(self):
        shut = ByName(max_workers=1)
        futures = [shut.submit(time.sleep, 0.1) for _ in range(50)]
        shut.shutdown(wait=False, cancel_futures=True)
        shut._work.thread.join()
        self.assertTrue(all(future.done() for future in futures))
        self.assertGreater(sum(future.cancelled() for future in futures), 20)


class WaitTest(Mixin, test_wait.WaitTests, util.BaseTestCase):
    pass


class AsCompletedTest(Mixin, test_as_completed.AsCompletedTests, util.BaseTestCase):
    pass


class InitializerTest(test_init.InitializerMixin, util.BaseTestCase):
    executor_type = ByName

    def setUp(self):
        super().setUp()


class FailingInitializerTest(test_init.FailingInitializerMixin, util.BaseTestCase):
    executor_type = ByName

    def _assert_logged(self, text):
        return self.assertLogs("farexec", "CRITICAL")


def main():
    suite, left_out = unittest.TestSuite(), []
    for case in (ExecutorTest, ShutdownTest, WaitTest, AsCompletedTest, InitializerTest, FailingInitializerTest):
        for name in unittest.defaultTestLoader.getTestCaseNames(case):
            if name in LEFT_OUT:
                left_out.append(name)
            else:
                suite.addTest(case(name))
    # What watches the end of the program is not a test's to end.
    farexec.Executor(1).shutdown()
    stream = io.StringIO()
    result = unittest.TextTestRunner(stream=stream, verbosity=2).run(suite)
    print(json.dumps({"run": result.testsRun, "left out": sorted(left_out), "skipped": len(result.skipped)}))
    if not result.wasSuccessful():
        sys.exit(stream.getvalue())


if __name__ == "__main__":
    main()
