"""What leaves the coordinator for a worker elsewhere: nothing of its environment."""

import sys

import pytest

SENT = "FAREXEC_TEST_PRIVATE"


@pytest.mark.parametrize("way", ["ssh", "socket", "ssh via"])
def test_the_environment_stays_here(group, specs_to, monkeypatch, way):
    *relays, spec = specs_to(way)
    monkeypatch.setenv(SENT, "for nobody else")
    monkeypatch.setenv("FAREXEC_SECRET", "for nobody else")
    for relay in relays:
        # A relay on this machine has this program's environment, and what it starts over ssh must not.
        group.makegateway(relay)
    gateway = group.makegateway(f"{spec}//env:FAREXEC_TEST_SENT=1")
    there = gateway.remote_exec("import os; channel.send(dict(os.environ))").receive(20)
    assert there["FAREXEC_TEST_SENT"] == "1"
    assert SENT not in there and "for nobody else" not in there.values()


def test_a_worker_on_this_machine_has_the_environment(group, monkeypatch):
    monkeypatch.setenv(SENT, "for children")
    gateway = group.makegateway(f"popen//python={sys.executable}")
    assert gateway.remote_exec(f"import os; channel.send(os.environ[{SENT!r}])").receive(20) == "for children"
