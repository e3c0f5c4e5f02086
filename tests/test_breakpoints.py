"""Breakpoints in workers: `pdb` at the coordinator's terminal."""

import asyncio
import io
import subprocess
import sys
import textwrap

import pytest

from farexec import aio
from processes import wait_until

TEXT = """\
def double(number):
    result = 2 * number
    breakpoint()
    return result

channel.send(double(channel.receive()))
"""


def stop(gateway, lines, text=TEXT, item=21):
    """What comes of code that stops, and what was shown meanwhile."""
    shown = io.StringIO()
    gateway.allow_breakpoints(io.StringIO(lines), shown)
    channel = gateway.remote_exec(text)
    channel.send(item)
    return channel.receive(20), shown.getvalue()


@pytest.mark.parametrize("native", ["auto", "no"])
def test_a_person_looks_around_and_goes_on(group, native):
    gateway = group.makegateway(f"popen//id=far//native={native}")
    result, shown = stop(gateway, "p result\nresult = 7\nlist\nup\np channel.isclosed()\nc\n")
    assert result == 7
    lines = shown.splitlines()
    assert all(line.startswith("[far] ") for line in lines), shown
    assert "[far] (Pdb) [far] 42" in lines
    # What was sent as text has lines as well.
    assert any("->" in line and "return result" in line for line in lines) and any("def double(number):" in line for line in lines)
    assert "(Pdb) [far] False\n" in shown


def test_in_every_interpreter(group, python):
    gateway = group.makegateway(f"popen//python={python}//start=spawn")
    result, shown = stop(gateway, "p result + 1\nc\n")
    assert result == 42 and "(Pdb) [gw0] 43" in shown


def test_stepping_and_breakpoints_of_its_own(group):
    gateway = group.makegateway()
    text = "breakpoint()\ntotal = 0\nfor number in range(5):\n    total += number\nchannel.send(total)\n"
    result, shown = stop(gateway, "n\nn\nbreak 4, number == 3\nc\np total\ntotal = 100\nclear 1\nc\n", text)
    assert result == 107
    assert "(Pdb) [gw0] 3\n" in shown


def test_where_nothing_is_entered_any_more_it_runs_on(group):
    result, shown = stop(group.makegateway(), "p result\n")
    assert result == 42 and "(Pdb) [gw0] 42" in shown


def test_one_after_the_other(group):
    """Each keeps the terminal until its program runs on."""
    gateways = [group.makegateway(f"popen//id=w{number}") for number in range(3)]
    shown, entered = io.StringIO(), io.StringIO("p result\nc\n" * 3)
    for gateway in gateways:
        gateway.allow_breakpoints(entered, shown)
    channels = [gateway.remote_exec(TEXT) for gateway in gateways]
    for number, channel in enumerate(channels):
        channel.send(number)
    assert [channel.receive(20) for channel in channels] == [0, 2, 4]
    order = [line[1:3] for line in shown.getvalue().splitlines()]
    assert sorted(set(order), key=order.index) == [name for position, name in enumerate(order) if order.index(name) == position]
    assert all(f"[w{number}] (Pdb) [w{number}] {2 * number}\n" in shown.getvalue() for number in range(3))


def test_allowed_twice_is_allowed_once(group):
    gateway = group.makegateway()
    stop(gateway, "c\n")
    result, shown = stop(gateway, "p 1\nc\n")
    assert result == 42 and shown.count("(Pdb)") == 2


def test_functions_of_the_package_stop_too(group):
    gateway = group.makegateway()
    result, shown = stop(
        gateway, "p item\nc\n", "import farexec\nitem = channel.receive()\nfarexec.breakpoint()\nchannel.send(item)\n", "x"
    )
    assert result == "x" and "(Pdb) [gw0] 'x'" in shown


class Never(io.StringIO):
    """A terminal where nobody enters anything for as long as the test goes on."""

    def readline(self, *_):
        import time

        time.sleep(3)
        return ""


def test_a_group_ends_while_somebody_thinks(group):
    gateway = group.makegateway()
    shown = io.StringIO()
    gateway.allow_breakpoints(Never(), shown)
    channel = gateway.remote_exec(TEXT)
    channel.send(1)
    wait_until(lambda: "(Pdb)" in shown.getvalue())
    group.terminate(timeout=5)
    assert not gateway.alive


def test_a_program_ends_while_a_line_is_waited_for(tmp_path):
    code = """
    import farexec, time
    group = farexec.Group(["popen"])
    group[0].allow_breakpoints()
    group.remote_exec("breakpoint(); channel.send(1)")
    time.sleep(0.5)
    print("the end")
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(code))
    with subprocess.Popen(
        [sys.executable, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.wait(20) == 0, program.stderr.read()
        assert program.stdout.read().endswith("the end\n") and program.stderr.read() == ""


def test_in_an_event_loop():
    async def main():
        async with aio.Group(["popen"]) as group:
            shown = io.StringIO()
            await group[0].allow_breakpoints(io.StringIO("p result\nc\n"), shown)
            channel = group[0].remote_exec(TEXT)
            await channel.send(21)
            assert await channel.receive() == 42
            assert "(Pdb) [gw0] 42" in shown.getvalue()

    asyncio.run(main())
