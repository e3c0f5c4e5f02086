"""`Gateway.allow_imports`: modules that a worker misses come from here, those that were named and no others."""

import gc
import pathlib
import sys
import textwrap
import time
import weakref

import pytest

import farexec

MODULES = {
    "far_alone.py": "import far_package\ndef answer(): return far_package.VALUE + 1",
    "far_package/__init__.py": "VALUE = 41\nfrom . import inner",
    "far_package/inner.py": "import os\nfrom .deep.down import depth\nname = __name__\ndef fail(): raise ValueError('inside')",
    "far_package/deep/__init__.py": "",
    "far_package/deep/down.py": "depth = 3",
    "far_space/module.py": "x = 5",
    "far_broken.py": "this is no Python",
    "far_secret.py": "raise RuntimeError('nobody allowed that')",
    "json_but_ours.py": "",
}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_what_is_missing_comes_from_here_with_all_that_is_in_it(gateway, modules):
    gateway.allow_imports("far_package", "far_alone")
    assert gateway.call("far_alone:answer") == 42
    channel = gateway.remote_exec("import far_package.inner as i, far_package; channel.send((i.name, i.depth, far_package.__file__))")
    name, depth, file = channel.receive()
    assert (name, depth, pathlib.Path(file)) == ("far_package.inner", 3, modules / "far_package" / "__init__.py")
    assert "far_package" not in sys.modules


def test_tracebacks_show_the_lines(gateway, modules):
    gateway.allow_imports("far_package")
    with pytest.raises(farexec.RemoteError) as error:
        gateway.call("far_package.inner:fail")
    assert "far_package/inner.py" in str(error.value) and "def fail(): raise ValueError('inside')" in str(error.value)


def test_a_namespace_package_is_one(gateway, modules):
    gateway.allow_imports("far_space")
    assert gateway.remote_exec("import far_space.module; channel.send(far_space.module.x)").receive() == 5


def test_nothing_else_comes(gateway, modules):
    for allowed in ((), ("far_package",)):
        if allowed:
            gateway.allow_imports(*allowed)
        with pytest.raises(farexec.RemoteError, match=r"(ImportError|ModuleNotFoundError): No module named '?far_secret"):
            gateway.remote_exec("import far_secret").waitclose()
    with pytest.raises(farexec.RemoteError, match=r"No module named '?(far_package\.)?missing"):
        gateway.remote_exec("import far_package.missing").waitclose()


@pytest.mark.parametrize("name", ["far_secret", "far_package.inner.x", "../far_secret", "far_package..inner", "", 7, None])
def test_a_worker_that_asks_for_more_gets_nothing(gateway, modules, name):
    gateway.allow_imports("far_package")
    ask = """
        import sys
        finder = [finder for finder in sys.meta_path if type(finder).__name__ == "Finder"][0]
        finder.channel.send(name)
        channel.send(finder.channel.receive())
        """
    channel = gateway.remote_exec(f"name = {name!r}\n" + textwrap.dedent(ask))
    assert channel.receive() is None


def test_what_the_worker_has_is_its_own(gateway, modules):
    (modules / "decimal.py").write_text("ours = True\n")
    gateway.allow_imports("decimal")
    assert gateway.remote_exec("import decimal; channel.send(hasattr(decimal, 'ours'))").receive() is False


def test_what_cannot_be_sent_is_refused_here(gateway, modules):
    for name, why in {"far_nothing": "no module", "_socket": "no module", "far_package.inner": "at the top", "": "at the top"}.items():
        with pytest.raises(ValueError, match=why):
            gateway.allow_imports("far_package", name)
    with pytest.raises(farexec.RemoteError):
        gateway.remote_exec("import far_package").waitclose()
    gateway.allow_imports("far_broken")
    with pytest.raises(farexec.RemoteError, match="SyntaxError(.|\n)*far_broken.py|far_broken.py(.|\n)*SyntaxError"):
        gateway.remote_exec("import far_broken").waitclose()


def test_a_codec_does_not_get_in_between(gateway, modules):
    gateway.setcodec("pickle")
    gateway.allow_imports("far_alone")
    gateway.allow_imports("far_package")
    assert gateway.remote_exec("import far_alone; channel.send(far_alone.answer())").receive() == 42


def test_threads_import_at_the_same_time(gateway, modules):
    for number in range(20):
        (modules / f"far_many{number}.py").write_text(f"import far_package\nvalue = {number}\n")
    gateway.allow_imports("far_package", *(f"far_many{number}" for number in range(20)))
    source = "import importlib; channel.send(importlib.import_module('far_many%d' % number).value)"
    channels = [gateway.remote_exec(f"number = {number}\n{source}") for number in range(20)]
    assert [channel.receive() for channel in channels] == list(range(20))


def test_the_end_of_a_gateway_frees_it(group, modules):
    gateway = group.makegateway()
    gateway.allow_imports("far_package")
    kept = weakref.ref(gateway)
    del gateway
    group.terminate(20)
    deadline = time.monotonic() + 20
    while kept() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
        farexec.dumps(None)  # what was let go of by a thread that is none of Python's is freed with the next call
        gc.collect()
    assert kept() is None
