"""Where tests have their workers: `--spec` takes the tests of behaviour to another place than a process on this machine.

`python -m pytest tests/test_channel.py --spec=ssh=HOST` runs one part over ssh: in this process, `popen` in a spec means that place then.
`--spec` given several times names the gateways that lead there first; no group shows them. What is about this machine says so by the mark
`local`, with the reason, and is left out: everywhere else, or over the transports that are named behind the reason.
"""

import sys
import typing
import weakref

import farexec

SUITE = ["test_call.py", "test_channel.py", "test_codecs.py", "test_gateway.py", "test_rsync.py", "test_seed.py"]
"""The tests of behaviour, which hold for every worker."""

LOCAL = "about this machine: "
"""What the reason begins with why a test is left out elsewhere."""

TRANSPORTS = ("ssh", "vagrant_ssh", "socket", "command", "podman", "docker", "kubectl", "srun", "uv", "via")


class Killed(typing.NamedTuple):
    """What is known of a worker that was killed."""

    told: str
    returncode: int | None


KILLED = {
    "ssh": Killed("exited with status 255", 255),
    "socket": Killed("was lost", None),
    "srun": Killed("exited with status 137", 137),
    "podman": Killed("exited with status 137", 137),
    "command": Killed("exited with status 137", 137),
}


def transports(specs):
    """The keys of a place by which its workers are reached."""
    place = farexec.XSpec(specs[-1])
    return [key for key in TRANSPORTS if getattr(place, key)]


def why_left_out(mark, specs):
    """Why a test that is marked as `local` is left out at a place; None if it is not."""
    reason, *only = mark.args
    return LOCAL + reason if not only or set(only) & set(transports(specs)) else None


def killed(specs):
    known = [KILLED[key] for key in (transports(specs) if specs else []) if key in KILLED]
    return known[0] if known else Killed("SIGKILL", -9)


def python_at(specs):
    """The interpreter of workers at a place."""
    return farexec.XSpec(specs[-1]).python or sys.executable


def move(monkeypatch, specs):
    """Has every group start its workers where the last spec says, through gateways of those before it."""
    *ways, there = map(farexec.XSpec, specs)
    make, terminate, current = farexec.Group._make, farexec.Group._terminate, farexec.XSpec._current
    led = weakref.WeakSet()

    def make_there(group, xspecs):
        if group not in led:
            led.add(group)
            for way in ways:
                group._unregister(*make(group, [farexec.XSpec(str(way))]))
        return make(group, xspecs)

    def terminate_all(group, *arguments):
        led.discard(group)
        return terminate(group, *arguments)

    def current_there(spec):
        if spec in ways or any(getattr(spec, key) for key in TRANSPORTS):
            return current(spec)
        place = farexec.XSpec(str(there))
        for name, value in vars(spec).items():
            if name not in ("_spec", "env", "popen"):
                setattr(place, name, value)
        place.env.update(spec.env)
        return current(place)

    monkeypatch.setattr(farexec.Group, "_make", make_there)
    monkeypatch.setattr(farexec.Group, "_terminate", terminate_all)
    monkeypatch.setattr(farexec.XSpec, "_current", current_there)
