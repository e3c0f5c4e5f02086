"""The behaviour of workers wherever they are: the tests of tests/test_matrix.py, once in each way to reach a worker."""

import collections
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from places import LOCAL, SUITE

# The ways, and how many tests are left out there for the reasons that they give.
WAYS = {"ssh": 11, "socket": 17, "installvia": 17, "via twice": 13, "podman=": 13, "srun=": 11, "bwrap": 12}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", WAYS)
def test_the_suite_over(way, specs_to, tmp_path, told):
    folder = pathlib.Path(__file__).parents[1]
    specs = [f"--spec={spec}" for spec in specs_to(way)]
    # Workers wait more than they compute.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "4", f"--junit-xml={tmp_path}/results.xml", *specs]
    command += [str(folder / name) for name in ("elsewhere.py", *SUITE)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=290)
    assert result.returncode == 0, result.stdout + result.stderr
    cases = list(xml.etree.ElementTree.parse(tmp_path / "results.xml").iter("testcase"))
    reasons = collections.Counter(skipped.get("message") for case in cases for skipped in case.iter("skipped"))
    passed = len(cases) - reasons.total()
    told(f"the suite over {way}: {passed} passed, {reasons.total()} left out")
    assert all(reason.startswith(LOCAL) for reason in reasons), reasons
    assert reasons.total() == WAYS[way] and passed >= 161 - WAYS[way], reasons
