"""Real servers and commands to reach workers through: sshd, Slurm, podman, bwrap, sudo and uv; and the browser that looks at pages.

Each server listens on loopback only, keeps its files in a folder that the caller gives, and is ended with everything it started.
`.ci/install` installs them on Debian; uv comes from PyPI. `FAREXEC_SERVERS` decides what happens if one is not installed: `found`
(the default) skips its tests, and the report's header names it; `all` makes it a failure.
"""

import contextlib
import dataclasses
import os
import pathlib
import pwd
import random
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

import keeper

CHOICE = os.environ.get("FAREXEC_SERVERS", "found")

# The executables of each component. Those of servers are often in folders that only root's path has.
COMPONENTS = {
    "sshd": ["sshd", "ssh", "ssh-keygen", "ss"],
    "slurm": ["munged", "slurmctld", "slurmd", "srun", "sinfo", "squeue", "scancel", "ss"],
    "podman": ["podman", "runc", "conmon"],
    "bwrap": ["bwrap"],
    "sudo": ["sudo"],
    "uv": ["uv"],
    "netns": ["ip"],
    "chromium": ["chromium"],
}
ONLY_AS_ROOT = ["slurm", "podman", "sudo", "netns"]
SCRIPTS = sysconfig.get_path("scripts")
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), SCRIPTS, "/usr/local/sbin", "/usr/sbin", "/sbin"])

# An interpreter that every user can run, whatever the home directory: what runs as somebody else or elsewhere uses this one.
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable


def find_executable(name: str) -> str | None:
    """The absolute path of an executable; None if it is not installed."""
    return shutil.which(name, path=PATH)


def executable(name: str) -> str:
    """The absolute path of an executable that is there."""
    found = find_executable(name)
    assert found is not None, f"{name} is not installed; .ci/install installs it"
    return found


def missing_components() -> list[str]:
    """The components that cannot be used here, because they are not installed or because root alone can use them so."""
    return [
        component
        for component, names in COMPONENTS.items()
        if not all(map(find_executable, names)) or (component in ONLY_AS_ROOT and os.geteuid() != 0)
    ]


def need(component: str) -> None:
    """Skips a test whose component cannot be used here, or fails if `FAREXEC_SERVERS=all` says that it has to be there."""
    if component in missing_components():
        reason = f"{component} is not installed, or only root can use it here"
        if CHOICE == "all":
            pytest.fail(f"{reason}; .ci/install installs it")
        pytest.skip(reason)


def report() -> str:
    """A line that says which servers the tests use, and which are not there."""
    missing = missing_components()
    used = [component for component in COMPONENTS if component not in missing]
    return f"servers: {', '.join(used) or 'none'}" + (f"; not installed, or only for root: {', '.join(missing)}" if missing else "")


def free_port() -> int:
    """A port of the loopback address that nobody uses; below those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Daemon:
    """A running server. It ends with `stop`, or with this process, and everything it started ends with it."""

    def __init__(self, name: str, command: list[str], log: pathlib.Path, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-E", keeper.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def pids(self) -> list[int]:
        """The server's processes, and those of everything it started."""
        return [self.process.pid, *keeper.descendants(self.process.pid)]

    def wait_until(self, answers: Callable[[], bool], seconds: float = 20.0) -> None:
        """Waits until the server answers; fails, with its log, if it ends or takes too long."""
        deadline = time.monotonic() + seconds
        while not answers():
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                what = "did not answer" if ended is None else f"ended with {ended}"
                raise RuntimeError(f"{self.name} {what}:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.01)

    def assert_loopback_only(self) -> None:
        """Fails if a process of this server listens on an address that others can reach."""
        wide = [address for address in listening_addresses(self.pids()) if not is_loopback(address)]
        assert not wide, f"{self.name} listens on {', '.join(wide)}"

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=20)


@contextlib.contextmanager
def daemon(name: str, command: list[str], log: pathlib.Path, environment: dict[str, str] | None = None) -> Iterator[Daemon]:
    """Starts a server and stops it at the end."""
    started = Daemon(name, command, log, environment)
    try:
        yield started
    finally:
        started.stop()


def listening_addresses(pids: list[int]) -> list[str]:
    """The TCP addresses, as `address:port`, that these processes listen on."""
    lines = subprocess.run([executable("ss"), "-H", "-l", "-t", "-n", "-p"], check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split()[3] for line in lines if any(f"pid={pid}," in line for pid in pids)]


def is_loopback(address: str) -> bool:
    return address.startswith(("127.", "[::1]", "[::ffff:127."))


# sshd


SSHD_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxSessions 64
MaxStartups 64
LogLevel VERBOSE
SetEnv {environment}
"""

SSH_CONFIG = """
Host farexec-host farexec-denied
    HostName 127.0.0.1
    Port {port}

Host farexec-closed
    HostName 127.0.0.1
    Port {closed_port}

Host farexec-unknown
    HostName name.invalid

Host farexec-denied
    IdentityFile {folder}/stranger_key

Host farexec-host farexec-closed farexec-unknown
    IdentityFile {folder}/user_key

Host *
    User {user}
    BatchMode yes
    ConnectTimeout 10
    IdentitiesOnly yes
    IdentityAgent none
    PreferredAuthentications publickey
    StrictHostKeyChecking yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
"""


@dataclasses.dataclass
class Sshd:
    """A running sshd. `config` is for `ssh -F`. Its hosts: `farexec-host` works; `farexec-denied` refuses the key; at `farexec-closed`
    nobody listens; `farexec-unknown` has a name that does not resolve."""

    config: str
    port: int
    server: Daemon

    def command(self, host: str = "farexec-host") -> list[str]:
        """What stands before a command that is to run at the host."""
        return [executable("ssh"), "-F", self.config, host]

    def connections(self) -> int:
        """How many connections were made to the server so far, refused ones included."""
        return self.server.log.read_text().count("\nConnection from ")


# With this the shell does not take itself for a login shell, and leaves out its start-up file, which costs more than all the rest.
NO_START_UP_FILE = "SHLVL=2"


@contextlib.contextmanager
def sshd(folder: pathlib.Path, environment: str = NO_START_UP_FILE, user: str = "", within: Sequence[str] = ()) -> Iterator[Sshd]:
    """Runs an sshd that lets this user, or another one, in by key. `environment` is what it sets for what it starts; `within` a command
    that runs the server, in other surroundings."""
    if os.geteuid() == 0:
        # The one thing outside of the folder: sshd wants an empty directory at this place, and systemd makes it elsewhere.
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    for name in ("host_key", "user_key", "stranger_key"):
        subprocess.run([executable("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)
    with socket.socket() as closed:
        # Bound without listening: who connects is refused, and nobody else gets the port.
        closed.bind(("127.0.0.1", 0))
        port = free_port()
        (folder / "sshd_config").write_text(SSHD_CONFIG.format(port=port, folder=folder, environment=environment))
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host_key.pub').read_text()}")
        config = folder / "ssh_config"
        user = user or pwd.getpwuid(os.geteuid()).pw_name
        config.write_text(SSH_CONFIG.format(port=port, closed_port=closed.getsockname()[1], folder=folder, user=user))
        log = folder / "sshd.log"
        with daemon("sshd", [*within, executable("sshd"), "-D", "-e", "-f", str(folder / "sshd_config")], log) as server:
            server.wait_until(lambda: f"port {port}" in log.read_text())
            server.assert_loopback_only()
            yield Sshd(str(config), port, server)


# Slurm


SLURM_CONFIG = """
ClusterName=farexec
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
# Without this the daemons listen on every address.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
# Else a job takes all the memory of its node, and the next one waits.
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
{nodes}
PartitionName=main Nodes=ALL Default=YES State=UP MaxTime=INFINITE
"""


@dataclasses.dataclass
class Slurm:
    """A running Slurm with two nodes, n1 and n2, both this machine. Its commands want `environment` in theirs."""

    environment: dict[str, str]
    servers: list[Daemon]

    def command(self, *options: str) -> list[str]:
        """What stands before a command that is to run as a job of one task."""
        setting = [f"{name}={value}" for name, value in self.environment.items()]
        return [executable("env"), *setting, executable("srun"), "-Q", "--unbuffered", "-n1", *options]

    def pids(self) -> list[int]:
        """The processes of all daemons and jobs."""
        return [pid for server in self.servers for pid in server.pids()]


@contextlib.contextmanager
def slurm(folder: pathlib.Path) -> Iterator[Slurm]:
    """Runs munged, slurmctld, and slurmd for each of two nodes."""
    nodes = [f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={free_port()} CPUs=64" for name in ("n1", "n2")]
    config = folder / "slurm.conf"
    config.write_text(SLURM_CONFIG.format(host=socket.gethostname(), port=free_port(), folder=folder, nodes="\n".join(nodes)))
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    environment = {"SLURM_CONF": str(config)}
    munge_files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    # Forced, because a socket in a folder of root alone is not what munged expects.
    munged = [executable("munged"), "--foreground", "--force", f"--socket={folder}/munge.sock", *munge_files]

    def ask(name: str, *arguments: str) -> list[str]:
        command = [executable(name), *arguments]
        return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True).stdout.split()

    with contextlib.ExitStack() as stack:

        def start(name: str, command: list[str]) -> Daemon:
            return stack.enter_context(daemon(name, command, folder / f"{name}.out", environment))

        munge = start("munged", munged)
        munge.wait_until((folder / "munge.sock").exists)
        controller = start("slurmctld", [executable("slurmctld"), "-D", "-c"])
        workers = [start(f"slurmd-{name}", [executable("slurmd"), "-D", "-N", name, "-c"]) for name in ("n1", "n2")]
        controller.wait_until(lambda: ask("sinfo", "--noheader", "--Node", "--format=%T") == ["idle", "idle"])
        for server in (controller, *workers):
            server.assert_loopback_only()
        try:
            yield Slurm(environment, [munge, controller, *workers])
        finally:
            # An srun whose job was not ended waits for its daemons for ever.
            ask("scancel", "--user=root")
            controller.wait_until(lambda: ask("squeue", "--noheader") == [])


# Commands that run another command somewhere else


PODMAN_CONFIG = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
# Else they stand in shared memory, for all of the machine.
lock_type = "file"
"""


@dataclasses.dataclass
class Podman:
    """A podman with a storage of its own, for containers whose root is a copy of this machine's."""

    words: list[str]
    """The command, with all that makes it use its own storage."""
    options: list[str]
    """Those of a new container."""

    def command(self) -> list[str]:
        """What stands before a command that is to run in a new container."""
        return [*self.words, "run", "--rm", "-i", *self.options, "--rootfs", "/:O"]

    def start(self, name: str) -> None:
        """Runs a container of this name, in which commands can be run."""
        command = [*self.words, "run", "-d", f"--name={name}", *self.options, "--rootfs", "/:O", "sleep", "infinity"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def install(self, path: pathlib.Path) -> None:
        """Makes this podman the command at `path`: docker's command line is the same."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {shlex.join(self.words)} "$@"\n')
        path.chmod(0o755)


@contextlib.contextmanager
def podman(folder: pathlib.Path) -> Iterator[Podman]:
    """Containers that are still there at the end are removed."""
    config = folder / "containers.conf"
    config.write_text(PODMAN_CONFIG)
    cgroup = f"farexec-{os.getpid()}-{time.monotonic_ns()}"
    # Podman refuses a path of more than 50 characters here.
    run = tempfile.mkdtemp(prefix="farexec-", dir="/tmp")
    places = [f"--root={folder}/storage", f"--runroot={run}", f"--tmpdir={folder}/tmp", "--storage-driver=overlay"]
    podman = [executable("env"), f"CONTAINERS_CONF={config}", executable("podman"), *places]
    # No network: the default one leaves interfaces and firewall rules behind. The limits are what a process without privileges may set.
    options = ["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000", f"--cgroup-parent=/{cgroup}"]
    try:
        yield Podman(podman, options)
    finally:
        subprocess.run([*podman, "rm", "--all", "--force", "--time=0"], check=True, stdout=subprocess.DEVNULL)
        unmount_storage(folder)
        shutil.rmtree(run)
        remove_cgroup(cgroup)


def unmount_storage(folder: pathlib.Path, seconds: float = 10.0) -> None:
    """Unmounts what podman has mounted below its folder, once its last process is gone: of two that end at once, both may leave that to
    the other."""
    deadline = time.monotonic() + seconds
    while uses(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    mounted = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    for path in reversed([path for path in mounted if path.startswith(f"{folder}/")]):
        subprocess.run([executable("umount"), path], check=True)


def uses(folder: pathlib.Path) -> bool:
    """Whether a process has the folder among its arguments."""
    for process in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"{folder}/".encode() in process.read_bytes() and process.parent.name != str(os.getpid()):
                return True
        except OSError:
            pass
    return False


def remove_cgroup(name: str, seconds: float = 10.0) -> None:
    """Removes what podman leaves of a control group, in each hierarchy, as soon as its last process is gone."""
    deadline = time.monotonic() + seconds
    for top in pathlib.Path("/sys/fs/cgroup").glob(f"**/{name}"):
        for below, _, _ in os.walk(top, topdown=False):
            while True:
                try:
                    os.rmdir(below)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)


def bwrap_command() -> list[str]:
    """What stands before a command that is to run in a sandbox, with its own process ids and a root that it cannot write to."""
    read_only = ["--ro-bind", "/", "/", "--tmpfs", "/var/tmp"]
    return [executable("bwrap"), *read_only, "--proc", "/proc", "--dev", "/dev", "--unshare-pid", "--die-with-parent"]


def sudo_command() -> list[str]:
    """What stands before a command that is to run as another user, who may do nothing; `SYSTEM_PYTHON` is one that this user can run."""
    return [executable("sudo"), "-n", "-u", "nobody"]
