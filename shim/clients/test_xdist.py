"""pytest-xdist on the shim: its own tests, every way to distribute, and the plugins that ride on it."""

import importlib.metadata
import re
import xml.etree.ElementTree

import pytest

from conftest import run_pytest

# Which of two workers that start together is ready first decides what these two see; they fail now and then under execnet as well.
RACES = {
    "testing/acceptance_test.py::TestLoadScope::test_workqueue_ordered_by_size",
    "testing/acceptance_test.py::TestLoadScope::test_workqueue_ordered_by_input",
}
ATTEMPTS = 10


def failed_in(output: str) -> set[str]:
    return set(re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE))


@pytest.mark.timeout(600)
def test_its_own_tests(sources):
    folder = sources("pytest-xdist", "3.8.0")
    result = run_pytest(folder, "-q", "-rfE", timeout=580)
    failed = failed_in(result.stdout)
    assert result.returncode in (0, 1) and failed <= RACES, result.stdout[-20_000:]
    (summary,) = re.findall(r"^(?:\d+ failed, )?(\d+) passed.* in ", result.stdout, re.MULTILINE)
    assert int(summary) + len(failed) == 196
    for test in failed:
        for _ in range(ATTEMPTS):
            again = run_pytest(folder, "-q", test)
            if again.returncode == 0:
                break
        else:
            pytest.fail(f"{test} failed {ATTEMPTS + 1} times:\n{again.stdout}")


SUITE = """
import os
import pytest

@pytest.mark.parametrize("number", range(12))
def test_passes(number):
    assert os.environ.get("PYTEST_XDIST_WORKER", "none") in ("none", "gw0", "gw1")

class TestGroup:
    @pytest.mark.xdist_group("one")
    def test_fails(self):
        print("said before it failed")
        assert {"a": (1, 2)} == {"a": (1, 3)}

    @pytest.mark.xdist_group("one")
    def test_raises(self):
        raise ValueError("grüße")

def test_skips():
    pytest.skip("not today")

@pytest.mark.xfail
def test_expected():
    assert False

def test_warns():
    import warnings
    warnings.warn("take care")
"""


def test_the_report_is_that_of_one_run(tmp_path):
    """Workers' own reports stood between its lines."""
    (tmp_path / "test_one.py").write_text("def test_one():\n    pass\n")
    result = run_pytest(tmp_path, "-n", "2", "-q")
    assert re.sub(r"in [0-9.]+s", "in N", result.stdout).split("\n")[-3:] == [f"{'.':73}[100%]", "1 passed in N", ""]
    assert "test session starts" not in result.stdout and result.stdout.count(" in ") == 1, result.stdout


@pytest.mark.parametrize("mode", ["load", "loadscope", "loadfile", "loadgroup", "worksteal", "no", "each"])
def test_every_way_to_distribute(tmp_path, mode):
    (tmp_path / "test_one.py").write_text(SUITE)
    (tmp_path / "test_two.py").write_text("def test_two():\n    pass\n")
    workers = ["--tx", "2*popen"] if mode == "each" else ["-n", "2"]
    result = run_pytest(tmp_path, *workers, "--dist", mode, "-W", "default")
    passed, others = 14, "2 failed, {} passed, 1 skipped, 1 xfailed, 1 warning in "
    if mode == "each":
        passed, others = 28, "4 failed, {} passed, 2 skipped, 2 xfailed, 2 warnings in "
    assert others.format(passed) in result.stdout, result.stdout
    assert "said before it failed" in result.stdout and "ValueError: grüße" in result.stdout


def test_a_worker_that_crashes_is_replaced(tmp_path):
    (tmp_path / "test_crash.py").write_text(
        "import os\nimport pytest\n\n\n@pytest.mark.parametrize('n', range(8))\ndef test(n):\n    if n == 3:\n        os._exit(7)\n"
    )
    result = run_pytest(tmp_path, "-n", "2")
    assert "1 failed, 7 passed in " in result.stdout, result.stdout
    assert re.search(r"worker 'gw\d' crashed while running 'test_crash.py::test\[3\]'", result.stdout)


def test_pytest_cov(tmp_path):
    (tmp_path / "package.py").write_text("def used(n):\n    return n + 1\n\n\ndef unused():\n    return 0\n")
    (tmp_path / "test_it.py").write_text(
        "import package\nimport pytest\n\n\n@pytest.mark.parametrize('n', range(6))\ndef test(n):\n    assert package.used(n) == n + 1\n"
    )
    result = run_pytest(tmp_path, "-n", "2", "--cov=package", "--cov-report=term-missing")
    assert "6 passed in " in result.stdout, result.stdout
    assert re.search(r"^package\.py +4 +1 +75% +6$", result.stdout, re.MULTILINE), result.stdout


def test_pytest_rerunfailures(tmp_path):
    (tmp_path / "test_flaky.py").write_text(
        "import pathlib\nimport pytest\n\n\n@pytest.mark.parametrize('n', range(6))\ndef test(n, request):\n"
        "    mark = pathlib.Path(__file__).with_name(f'mark{n}')\n    if n % 2 and not mark.exists():\n        mark.touch()\n"
        "        assert False, 'the first time'\n"
    )
    result = run_pytest(tmp_path, "-n", "2", "--reruns", "2")
    assert "6 passed, 3 rerun in " in result.stdout, result.stdout


def outcomes(path) -> dict[str, str]:
    found = {}
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        kinds = sorted(child.tag for child in case if child.tag in ("failure", "error", "skipped"))
        found[f"{case.get('classname')}::{case.get('name')}"] = ",".join(kinds) or "passed"
    return found


def test_a_real_test_suite_has_the_same_outcomes_as_without_workers(sources, tmp_path):
    # That of a release that is installed here, since it tests what is installed.
    folder = sources("packaging", importlib.metadata.version("packaging"))
    arguments = ("-q", "-o", "junit_family=xunit1", "tests/test_requirements.py")
    alone = run_pytest(folder, *arguments, f"--junit-xml={tmp_path}/alone.xml", "-p", "no:xdist")
    spread = run_pytest(folder, *arguments, f"--junit-xml={tmp_path}/spread.xml", "-n", "4")
    assert alone.returncode == spread.returncode == 0, alone.stdout[-3000:] + spread.stdout[-3000:]
    expected = outcomes(tmp_path / "alone.xml")
    assert len(expected) > 1000
    assert outcomes(tmp_path / "spread.xml") == expected
