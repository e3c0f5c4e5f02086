"""What a system may run out of: descriptors, processes and room on a disk, of the coordinator and of workers. Whoever asks for more gets a
clear error, what there was goes on, and when there is room again so does the rest."""

import os
import pathlib
import shlex
import subprocess
import sys
import textwrap

import pytest

import farexec
import servers

NOBODY = 65534


def run(folder, code, *arguments):
    """What a program prints, which has to end well and to complain of nothing."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(code))
    result = subprocess.run([sys.executable, str(path), *map(str, arguments)], capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


@pytest.mark.parametrize("start", ["template", "spawn"])
def test_descriptors_of_the_coordinator(tmp_path, start):
    code = """
    import resource, sys, time
    import farexec

    spec = "popen//start=" + sys.argv[1]
    group = farexec.Group([spec])
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    before = len(group)
    try:
        while True:
            group.makegateway(spec)
    except farexec.StartError as error:
        print(error)
    made = len(group)
    print(made > before + 2, [gateway.call("operator:neg", 1) for gateway in group] == [-1] * made)
    for gateway in list(group)[:3]:
        gateway.exit()
        gateway.join(20)
    print(len(group) == made - 3)
    del gateway
    deadline = time.monotonic() + 20
    while True:  # what a gateway had is free a moment after it has ended
        try:
            print(group.makegateway(spec).call("operator:neg", 2))
            break
        except farexec.StartError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    print(sorted(group.map("operator:neg", range(100), ordered=False)) == list(range(-99, 1)))
    group.terminate(timeout=10)
    """
    error, *rest = run(tmp_path, code, start)
    assert "Too many open files" in error
    assert rest == ["True True", "True", "-2", "True"]


@pytest.mark.parametrize("native", ["auto", "no"])
def test_descriptors_of_a_worker(group, native, tmp_path):
    gateway = group.makegateway(f"popen//start=spawn//native={native}")
    assert gateway.call("operator:neg", 1) == -1
    channel = gateway.remote_exec(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        files = []
        try:
            while True:
                files.append(open("/dev/null"))
        except EnvironmentError as error:
            channel.send(str(error))
        channel.receive()
        del files
        """
    )
    assert "Too many open files" in channel.receive(20)
    # Nothing of this needs another descriptor.
    assert gateway.remote_exec("for item in channel: channel.send(item)").gateway is gateway
    assert gateway.call("operator:neg", 1) == -1 and gateway.remote_status().numexecuting >= 1
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    rsync = farexec.RSync(source, verbose=False)
    rsync.add_target(gateway, tmp_path / "there")
    with pytest.raises(farexec.RSyncError, match="Too many open files"):
        rsync.send()
    channel.send(None)
    channel.waitclose(20)
    rsync.add_target(gateway, tmp_path / "there")
    rsync.send()
    assert (tmp_path / "there" / "file").read_text() == "content"
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user, which has no processes yet")
@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6, 8, 12, 20])
def test_processes_of_the_coordinator(tmp_path, most):
    """Threads count as processes. With very few there is no first worker; with more there are some."""
    code = """
    import os, resource, sys
    import farexec

    nobody, most, python = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.setresgid(nobody, nobody, nobody)
    os.setresuid(nobody, nobody, nobody)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    with farexec.Group() as group:
        try:
            while True:
                group.makegateway("popen//python=" + python)
        except farexec.StartError as error:
            print(error)
        print(len(group))
        for gateway in group:
            try:
                print(gateway.call("operator:neg", 1))
            except farexec.RemoteError as error:
                print(str(error).strip())
    """
    error, made, *answers = run(tmp_path, code, NOBODY, most, servers.SYSTEM_PYTHON)
    assert "Resource temporarily unavailable" in error or "can't start new thread" in error
    assert len(answers) == int(made) < most
    assert set(answers) <= {"-1", "cannot start another thread"}


def test_a_full_disk_at_a_target(tmp_path):
    """The target's disk is one of its own, in a sandbox, and has two mebibytes."""
    servers.need("bwrap")
    sandbox = [servers.executable("bwrap"), "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-pid", "--die-with-parent"]
    sandbox += ["--size", str(2 << 20), "--tmpfs", "/mnt"]
    source = tmp_path / "source"
    source.mkdir()
    for name, size in (("a", 500_000), ("b", 3_000_000), ("c", 100), ("d", 500_000)):
        (source / name).write_bytes(os.urandom(size))
    with farexec.Group([f"command={shlex.join(sandbox)}//python={sys.executable}"]) as group:
        (gateway,) = group

        def there():
            names = (
                "import os; channel.send({name: os.path.getsize(os.path.join('/mnt/there', name)) for name in os.listdir('/mnt/there')})"
            )
            return gateway.remote_exec(names).receive(20)

        rsync = farexec.RSync(source, verbose=False)
        rsync.add_target(gateway, "/mnt/there")
        with pytest.raises(farexec.RSyncError) as caught:
            rsync.send()
        assert [(failure.path, failure.reason) for failure in caught.value.failures] == [("b", "No space left on device")]
        assert there() == {"a": 500_000, "c": 100, "d": 500_000}
        (source / "b").write_bytes(os.urandom(200_000))
        rsync.add_target(gateway, "/mnt/there")
        rsync.send()
        assert there() == {path.name: path.stat().st_size for path in pathlib.Path(source).iterdir()}
