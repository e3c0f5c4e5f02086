"""RSync: the tree that arrives, the callbacks and methods that programs rely on, and what is told when something fails."""

import os
import subprocess
import sys
import threading

import pytest

import farexec
import servers
from far import Folder, kill, look, new_folder
from farexec import RSync, RSyncError


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    (folder / "one").write_text("1")
    (folder / "sub" / "two").write_text("22")
    return folder


class Quiet(RSync):
    """Notes what it is asked and told."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.asked, self.reported = [], []

    def filter(self, path):
        self.asked.append(path)
        return True

    def _report_send_file(self, gateway, modified_rel_path):
        self.reported.append((gateway.id, modified_rel_path))


def test_methods_and_callbacks(group, source, tmp_path, capsys):
    gateways = [group.makegateway(), group.makegateway()]
    folders = {gateway: new_folder(gateway, tmp_path) for gateway in gateways}
    calls = []

    def callback(what, size, channel):
        assert threading.current_thread() is threading.main_thread()
        calls.append((channel.gateway, what, size))

    rsync = Quiet(source, callback)
    for gateway in gateways:
        rsync.add_target(gateway, folders[gateway] / "there", finishedcallback=lambda: calls.append("finished"))
    assert rsync.send() is None
    assert rsync.asked == [str(source / name) for name in ("one", "sub", "sub/two")]
    for gateway in gateways:
        assert [path for name, path in rsync.reported if name == gateway.id] == ["one", "sub/two"]
        mine = [call[1:] for call in calls if call[0] is gateway]
        assert mine == [("list", 3), ("ack", 1), ("ack", 2)]
        assert folders[gateway].look("there") == look(source)
    assert calls.count("finished") == 2
    assert capsys.readouterr().out == ""

    with pytest.raises(OSError, match="no target"):
        rsync.send()
    assert rsync.send(raises=False) is None

    # Nothing changed: a callback hears of nothing, and is still told that it is so.
    del calls[:]
    rsync.add_target(gateways[0], folders[gateways[0]] / "there")
    rsync.send()
    assert calls == [(gateways[0], "list", 0)]


def test_it_says_what_it_sends(group, source, tmp_path, capsys):
    gateway = group.makegateway()
    folder = new_folder(gateway, tmp_path)
    RSync(str(source)).add_target(gateway, folder / "unused")  # nothing happens before send()
    rsync = RSync(str(source))
    rsync.add_target(gateway, folder / "there")
    rsync.send()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" <= ")[1] for line in lines] == ["one", "sub/two"]
    assert all(line.startswith("<Gateway id='gw0' receive-live") for line in lines)
    assert not folder.exists("unused")

    quiet = RSync(str(source), verbose=False)
    quiet.add_target(gateway, folder / "quiet")
    quiet.send()
    assert capsys.readouterr().out == ""


def test_a_relative_destination_is_in_the_workers_folder(group, source, tmp_path):
    folder = new_folder(group.makegateway(), tmp_path)
    gateway = group.makegateway(f"popen//chdir={folder / 'work'}")
    rsync = RSync(source, verbose=False)
    rsync.add_target(gateway, "here", delete=True)
    rsync.send()
    assert Folder(gateway, folder.path).look("work/here") == look(source)


def test_a_worker_whose_main_thread_is_busy_is_served(group, source, tmp_path):
    gateway = group.makegateway("popen//execmodel=main_thread_only")
    folder = new_folder(gateway, tmp_path)
    busy = gateway.remote_exec("channel.receive()")
    rsync = RSync(source, verbose=False)
    rsync.add_target(gateway, folder / "there")
    rsync.send()
    busy.send(None)
    busy.waitclose(10)
    assert folder.look("there") == look(source)


@pytest.mark.parametrize("where", ["filter", "report", "callback", "finished"])
def test_what_a_callback_raises_ends_it(group, source, tmp_path, where):
    def fails(*_):
        raise ZeroDivisionError(where)

    class Failing(RSync):
        if where == "filter":
            filter = fails
        if where == "report":
            _report_send_file = fails

    rsync = Failing(source, callback=fails if where == "callback" else None, verbose=False)
    gateway = group.makegateway()
    rsync.add_target(gateway, new_folder(gateway, tmp_path) / "there", finishedcallback=fails if where == "finished" else None)
    with pytest.raises(ZeroDivisionError, match=where):
        rsync.send()
    assert gateway.remote_exec("channel.send(1)").receive() == 1


def test_a_filter_set_on_the_object(group, source, tmp_path):
    rsync = RSync(source, verbose=False)
    rsync.filter = lambda path: not path.endswith("sub")
    folder = new_folder(group.makegateway(), tmp_path)
    rsync.add_target(folder.gateway, folder / "there")
    rsync.send()
    assert folder.names("there") == [b"one"]


def test_bad_sources(group, source, tmp_path):
    gateway = group.makegateway()
    folder = new_folder(gateway, tmp_path)
    rsync = RSync(tmp_path / "missing")
    rsync.add_target(gateway, folder / "there")
    with pytest.raises(FileNotFoundError) as caught:
        rsync.send()
    assert caught.value.filename == str(tmp_path / "missing")

    os.mkfifo(source / "pipe")
    rsync = RSync(source)
    rsync.add_target(gateway, folder / "there")
    with pytest.raises(ValueError, match="pipe"):
        rsync.send()
    assert not folder.exists("there")
    with pytest.raises(TypeError):
        RSync(None)


def test_what_vanishes_is_told_and_the_rest_is_sent(group, source, tmp_path):
    class Vanishing(RSync):
        def filter(self, path):
            if path.endswith("two"):
                (source / "one").unlink()
            return True

    def attempt(**options):
        (source / "one").write_text("1")
        finished = []
        folder = new_folder(group.makegateway(), tmp_path)
        rsync = Vanishing(source, verbose=False)
        rsync.add_target(folder.gateway, folder / "there", finishedcallback=lambda: finished.append(1))
        try:
            rsync.send(**options)
        finally:
            assert folder.look("there")["sub/two"][1] == b"22"
            assert [(failure.gateway, failure.path) for failure in rsync.failures] == [(None, "one")]
            assert finished == [1]

    with pytest.raises(RSyncError, match=r"`one` at the source: No such file"):
        attempt()
    attempt(raises=False)


def test_a_lost_worker_is_told(group, source, tmp_path, killed):
    gateways = [group.makegateway(), group.makegateway()]
    folders = [new_folder(gateway, tmp_path) for gateway in gateways]
    rsync = RSync(source, verbose=False)
    for folder in folders:
        rsync.add_target(folder.gateway, folder / "there")
    kill(gateways[0])
    gateways[0].join(10)
    with pytest.raises(RSyncError) as caught:
        rsync.send()
    (failure,) = caught.value.failures
    assert failure.gateway == "gw0"
    assert killed.told in failure.reason
    assert folders[1].look("there") == look(source)


UNPRIVILEGED = """
import farexec, os, pathlib, sys
root = pathlib.Path(sys.argv[1])
if os.getuid() == 0:
    os.setgid(65534); os.setgroups([]); os.setuid(65534)
os.umask(0o077)
source, there = root / "source", root / "there"
for name in ("open", "closed", "folder/inside"):
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).write_text("new")
    (there / name).parent.mkdir(parents=True, exist_ok=True)
    (there / name).write_text("old version")
(source / "locked").mkdir()
(source / "locked" / "file").write_text("x")
(there / "denied").mkdir()
(source / "closed").chmod(0)
(source / "folder").chmod(0)
(source / "locked").chmod(0o555)
with farexec.Group([f"popen//python={sys.argv[2]}"]) as group:
    for attempt in range(2):
        rsync = farexec.RSync(source, verbose=False)
        rsync.add_target(group[0], there, delete=True)
        try:
            rsync.send()
        except farexec.RSyncError as error:
            print(sorted((failure.path, failure.reason.split(" (")[0]) for failure in error.failures))
        (source / "locked").chmod(0o755)
        (source / "locked" / "file").write_text("changed")
        (source / "locked").chmod(0o555)
    print((there / "open").read_text(), (there / "closed").read_text(), (there / "folder" / "inside").read_text())
    print((there / "locked" / "file").read_text(), oct((there / "locked").stat().st_mode & 0o777))
    rsync = farexec.RSync(source / "open", verbose=False)
    rsync.add_target(group[0], "/proc/nobody/may/write")
    try:
        rsync.send()
    except farexec.RSyncError as error:
        print(error)
for folder in (source, there):
    (folder / "folder").chmod(0o755)
    (folder / "locked").chmod(0o755)
"""


@pytest.mark.local("its program has a worker of its own")
def test_what_may_not_be_read_or_written(tmp_path):
    """What cannot be read is told and stays at the far end as it was, even when the target is mirrored."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    # The worker's interpreter must be one that everybody may run.
    command = [sys.executable, "-c", UNPRIVILEGED, tmp_path, servers.SYSTEM_PYTHON]
    result = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert result.stderr == ""
    failed = "[('closed', 'Permission denied'), ('folder', 'Permission denied')]"
    assert result.stdout.splitlines() == [
        failed,
        failed,
        "new old version old version",
        "changed 0o555",
        "not everything was sent: at gw0: No such file or directory",
    ]


@pytest.mark.local("its program has a worker of its own")
@pytest.mark.parametrize("spec", ["popen", "command=env"])
def test_ctrl_c_gets_through_and_leaves_no_part(tmp_path, spec):
    program = """
import farexec, os, pathlib, signal, sys, threading
root = pathlib.Path(sys.argv[1])
(root / "source").mkdir()
(root / "source" / "large").write_bytes(os.urandom(1 << 20) * 200)
with farexec.Group(sys.argv[2:]) as group:
    rsync = farexec.RSync(root / "source", callback=lambda *_: threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start())
    rsync.add_target(group[0], root / "there")
    try:
        rsync.send()
        print("sent before the signal came")
    except KeyboardInterrupt:
        print("interrupted")
# It may have been there as a whole when the signal came, before that was known here.
print([name for name in os.listdir(root / "there") if os.path.getsize(root / "there" / name) != 200 << 20])
"""
    result = subprocess.run([sys.executable, "-c", program, tmp_path, spec], capture_output=True, text=True, timeout=50)
    assert result.stderr == ""
    assert result.stdout.splitlines()[-2:] == ["interrupted", "[]"]


def test_names_that_are_no_text(group, tmp_path):
    source = os.fsencode(tmp_path / "source")
    os.mkdir(source)
    with open(source + b"/\xff\n", "w") as file:
        file.write("x")
    folder = new_folder(group.makegateway(), tmp_path)
    rsync = Quiet(tmp_path / "source", verbose=False)
    rsync.add_target(folder.gateway, folder / "there")
    rsync.send()
    assert rsync.reported == [("gw0", os.fsdecode(b"\xff\n"))]
    assert folder.names("there") == [b"\xff\n"]


def test_the_error_is_public():
    assert issubclass(RSyncError, OSError)
    assert farexec.RSyncError.__module__ == "farexec"
