"""`farexec doctor`: every failure that can be made here with a real server is found at its step, with what to do about it."""

import os
import pathlib
import sys
import tempfile

import pytest

import interpreters
import servers
import shell

# What a server sees in a mount namespace of its own: a user whose home is not there, and a disk that is read-only.
SURROUNDINGS = r"""
set -e
mount --make-rprivate /
mount --bind "$1/passwd" /etc/passwd
mount -t tmpfs -o ro tmpfs "$1/read-only"
shift
exec "$@"
"""
HOMELESS = "farexec-homeless"


@pytest.fixture
def steps(run, lines):
    """A function that examines a spec and returns the exit code, and the steps by their names."""

    def examine(*words):
        result = run("doctor", *words)
        # What workers print is shown; of the command itself there is nothing to say.
        assert all(line.startswith("[") for line in result.stderr.splitlines())
        return result.returncode, {row["step"]: row for row in lines(result)}

    return examine


def failure(found):
    """The one step that failed, which is the last."""
    (failed,) = (row for row in found.values() if row["state"] == "failed")
    assert failed is list(found.values())[-1]
    return failed


def test_all_is_well_here(steps, here):
    code, found = steps(here)
    assert code == 0
    assert list(found) == ["interpreter", "worker", "first result", "directory", "round trip"]
    assert {row["state"] for row in found.values()} == {"ok"} and {row["to_do"] for row in found.values()} == {None}
    assert found["interpreter"]["said"].startswith("CPython {}.{}.{} ".format(*sys.version_info[:3]))
    assert found["interpreter"]["ran"] == f"{sys.executable} -c ..." == found["worker"]["ran"]
    assert found["worker"]["ms"] > 0


def test_all_is_well_over_ssh(steps, sshd):
    code, found = steps(f"ssh=farexec-host//ssh_config={sshd.config}//python={sys.executable}")
    assert code == 0
    assert list(found) == ["settings", "name", "connection", "login", "interpreter", "worker", "first result", "directory", "round trip"]
    assert found["settings"]["said"] == f"127.0.0.1 port {sshd.port}"
    assert found["login"]["ran"] == f"ssh -o 'BatchMode=yes' -F {sshd.config} farexec-host true"


def test_every_interpreter_is_told(steps, python):
    code, found = steps(f"popen//python={python}")
    assert code == 0
    version = ".".join(map(str, interpreters.version_of(python)))
    assert found["interpreter"]["said"].split()[:2] == ["PyPy" if "pypy" in python else "CPython", version]


@pytest.mark.parametrize(
    ("host", "step", "said", "to_do"),
    [
        ("farexec-unknown", "name", "name.invalid", "a slip in `name.invalid`"),
        ("farexec-closed", "connection", "Connection refused", "nothing listens"),
        ("farexec-denied", "login", "Permission denied (publickey)", "ssh=-i KEY USER@HOST"),
    ],
)
def test_a_host_that_cannot_be_reached(steps, sshd, host, step, said, to_do):
    code, found = steps(f"ssh={host}//ssh_config={sshd.config}")
    assert code == 3
    failed = failure(found)
    assert failed["step"] == step and said in failed["said"] and to_do in failed["to_do"]


def test_a_host_whose_key_is_another(steps, sshd, tmp_path):
    known = pathlib.Path(sshd.config).with_name("known_hosts").read_text().split()
    other = pathlib.Path(sshd.config).with_name("stranger_key.pub").read_text().split()
    (tmp_path / "known_hosts").write_text(f"{known[0]} {other[0]} {other[1]}\n")
    arguments = f"-o UserKnownHostsFile={tmp_path}/known_hosts farexec-host"
    code, found = steps(f"ssh={arguments}//ssh_config={sshd.config}")
    assert code == 3
    failed = failure(found)
    assert failed["step"] == "login" and "Host key verification failed" in failed["said"] and "ssh-keygen -R" in failed["to_do"]


def test_no_interpreter(steps, sshd):
    for spec in ("popen", f"ssh=farexec-host//ssh_config={sshd.config}"):
        code, found = steps(f"{spec}//python=no-such-python -X dev")
        assert code == 3
        failed = failure(found)
        assert (
            failed["step"] == "interpreter"
            and "no-such-python" in failed["said"]
            and "`no-such-python`" in failed["to_do"]
            and "python=/usr/bin/python3" in failed["to_do"]
        )


def test_something_that_is_no_interpreter(steps):
    code, found = steps("popen//python=false")
    assert code == 3
    assert failure(found)["said"] == "exited with status 1" and "no interpreter that works" in failure(found)["to_do"]


def test_too_old_an_interpreter(steps, tmp_path):
    """None that is too old can be had here: this is a real one that takes itself for it."""
    old = tmp_path / "python3.4"
    old.write_text(f"#!{sys.executable}\nimport sys\nsys.version_info = (3, 4, 10, 'final', 0)\nexec(sys.argv[2])\n")
    old.chmod(0o755)
    code, found = steps(f"popen//python={old}")
    assert code == 3
    failed = failure(found)
    assert failed["step"] == "interpreter" and "3.4.10" in failed["said"] and "too old" in failed["said"]
    assert "CPython 2.7, 3.6 and newer" in failed["to_do"]


def test_a_banner_in_the_shells_start_up_file(steps, tmp_path):
    servers.need("sshd")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_text("echo welcome to this host\n")
    with servers.sshd(tmp_path, environment=f"HOME={home}") as sshd:
        code, found = steps(f"ssh=farexec-host//ssh_config={sshd.config}//python={sys.executable}")
    assert code == 0
    assert found["shell"]["state"] == "strange" and "welcome to this host" in found["shell"]["said"]
    assert "interactive shells only" in found["shell"]["to_do"]
    assert found["worker"]["state"] == "ok" and found["round trip"]["state"] == "ok"


@pytest.fixture(scope="module")
def elsewhere():
    """An sshd in surroundings of its own, and its folder; see `SURROUNDINGS`."""
    servers.need("sshd")
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    # Pytest's own folders are closed to other users.
    with tempfile.TemporaryDirectory(prefix="farexec-test-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        (folder / "read-only").mkdir()
        users = pathlib.Path("/etc/passwd").read_text()
        (folder / "passwd").write_text(f"{users}{HOMELESS}:x:64999:65534::/no/such/home:/bin/bash\n")
        within = ["unshare", "-m", "sh", "-c", SURROUNDINGS, "sh", name]
        with servers.sshd(folder, within=within) as sshd:
            yield sshd, folder


def test_no_home_directory(steps, elsewhere):
    sshd, _ = elsewhere
    code, found = steps(f"ssh={HOMELESS}@farexec-host//ssh_config={sshd.config}//python={servers.SYSTEM_PYTHON}")
    assert code == 0
    assert found["home"]["state"] == "strange" and "/no/such/home" in found["home"]["said"]
    assert found["directory"]["state"] == "strange" and "chdir=" in found["home"]["to_do"]
    assert found["round trip"]["state"] == "ok"


def test_a_read_only_disk(steps, elsewhere):
    sshd, folder = elsewhere
    spec = f"ssh=farexec-host//ssh_config={sshd.config}//python={servers.SYSTEM_PYTHON}//chdir={folder}/read-only"
    code, found = steps(spec)
    assert code == 0 and found["directory"]["state"] == "strange" and "read-only" in found["directory"]["said"]
    code, found = steps(f"{spec}/new")
    assert code == 3
    failed = failure(found)
    assert failed["step"] == "worker" and "Read-only file system" in failed["said"] and "the disk is read-only" in failed["to_do"]


def test_a_socket_server_and_a_wrong_secret(steps, tmp_path):
    (tmp_path / "secret").write_text("one")
    (tmp_path / "wrong").write_text("another")
    for name in ("secret", "wrong"):
        (tmp_path / name).chmod(0o600)
    code, found = steps(f"socket=127.0.0.1:1//secret_file={tmp_path}/secret")
    assert code == 3 and failure(found)["step"] == "connection"
    with shell.Terminal("serve", "127.0.0.1:0", "--secret-file", str(tmp_path / "secret"), "--python", sys.executable) as server:
        server.wait_for("\n")
        address = server.seen.split()[-1]
        code, found = steps(f"socket={address}//secret_file={tmp_path}/secret")
        assert code == 0 and list(found)[:3] == ["name", "connection", "worker"]
        code, found = steps(f"socket={address}//secret_file={tmp_path}/wrong")
        assert code == 3 and failure(found)["step"] == "worker" and "secret_file=" in failure(found)["to_do"]
        server.press(shell.CTRL_C)
        assert server.wait() == 0


def test_a_program_that_is_not_there(steps):
    code, found = steps("command=no-such-program run")
    assert code == 3 and failure(found)["step"] == "program" and "install `no-such-program`" in failure(found)["to_do"]


def test_a_program_that_runs_the_interpreter(steps):
    code, found = steps(f"command=env A=1//python={sys.executable}")
    assert code == 0 and list(found)[:3] == ["program", "interpreter", "worker"]
    assert found["interpreter"]["ran"] == f"env 'A=1' {sys.executable} -c ..."


def test_a_host_behind_another(steps, sshd):
    """Whether it can be connected to from here says nothing then."""
    through = f"ProxyCommand=ssh -F {sshd.config} -W %h:%p farexec-host"
    code, found = steps(f"ssh=-o '{through}' farexec-host//ssh_config={sshd.config}//python={sys.executable}")
    assert code == 0 and list(found)[:3] == ["settings", "login", "interpreter"]
    assert found["settings"]["said"].endswith("through another host") and found["round trip"]["state"] == "ok"


def test_behind_a_relay(run, lines, here):
    result = run("doctor", f"{here}//id=gate", f"{here}//via=gate//id=inner", "popen//via=nobody//id=lost")
    assert result.returncode == 2
    found = [(row["gateway"], row["step"], row["state"]) for row in lines(result) if row["step"] in ("worker", "round trip")]
    assert found == [
        ("gate", "worker", "ok"),
        ("gate", "round trip", "ok"),
        ("inner", "worker", "ok"),
        ("inner", "round trip", "ok"),
        ("lost", "worker", "failed"),
    ]


def test_dry_run(run, lines):
    assert lines(run("doctor", "ssh=web01", "-n")) == [{"gateway": "web01", "spec": "ssh=web01", "command": "ssh web01 'python3 -c ...'"}]


def test_at_a_terminal(here):
    with shell.Terminal("doctor", here, "popen//python=no-such-python") as terminal:
        assert terminal.wait() == 3
    assert "\x1b[1m\x1b[32mok     \x1b[0m  interpreter " in terminal.seen
    assert "\x1b[1m\x1b[31mFAILED \x1b[0m  interpreter " in terminal.seen
    assert "ran: no-such-python -c ..." in terminal.seen and "to do: name an interpreter" in terminal.seen
    with shell.Terminal("doctor", here, NO_COLOR="1") as terminal:
        assert terminal.wait() == 0
    # Lines are cleared, but nothing is coloured.
    assert "\x1b[1m" not in terminal.seen and "\x1b[3" not in terminal.seen and "ok       interpreter " in terminal.seen
