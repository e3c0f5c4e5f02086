"""`farexec rsync`, `serve`, `status`, `completions`, `man`, `--help`: each does what it says, as the console script and as the binary."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

import farexec
import shell
from processes import wait_until_gone

TASKS = ["run", "map", "rsync", "serve", "status", "doctor", "top", "completions", "man"]


@pytest.fixture(params=shell.commands(), ids=lambda parameter: parameter[0])
def command(request):
    """Each command there is to test."""
    return request.param[1]


def test_status(command, run, here, lines):
    result = run("status", f"{here}*2", "popen//python=no-such-python", command=command)
    assert result.returncode == 3
    first, second = lines(result)
    assert (first["gateway"], second["gateway"]) == ("gw0", "gw1")
    assert first["python"] == "cpython {}.{}.{}".format(*sys.version_info[:3])
    assert first["executable"] == sys.executable and first["platform"] == sys.platform
    assert first["pid"] != second["pid"] and first["round_trip_ms"] > 0
    assert first["worker"] in ("native", "pure")
    assert "[gw2] there is no interpreter `no-such-python`" in result.stderr


def test_status_at_a_terminal_is_a_table(here):
    with shell.Terminal("status", here) as terminal:
        assert terminal.wait() == 0
    # What was seen while the worker started was cleared.
    head, row = terminal.seen.rpartition("\x1b[2K")[2].splitlines()
    assert head.split()[:3] == ["gateway", "python", "executable"] and row.split()[:2] == ["gw0", "cpython"]
    assert head.index("executable") == row.index(sys.executable)


@pytest.fixture
def tree(tmp_path):
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_text("a")
    (source / "sub" / "b").write_text("bb")
    (source / "sub" / "c.pyc").write_text("ccc")
    return source


def test_rsync(command, run, here, lines, tree, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    (second / "old").mkdir(parents=True)
    arguments = ("rsync", str(tree), f"{here}:{first}", f"{here}//id=two:{second}", "--exclude", "*.pyc", "--delete")
    planned = run(*arguments, "-n", command=command)
    assert [(row["gateway"], row["path"]) for row in lines(planned)] == [("gw0", str(first)), ("two", str(second))]
    assert not first.exists()
    result = run(*arguments, command=command)
    assert result.returncode == 0, result.stderr
    assert lines(result) == [
        {"gateway": "gw0", "files": 2, "sent": 3, "reused": 0, "copied": 0, "deleted": 0},
        {"gateway": "two", "files": 2, "sent": 3, "reused": 0, "copied": 0, "deleted": 1},
    ]
    for place in (first, second):
        assert sorted(path.name for path in place.rglob("*")) == ["a", "b", "sub"]
    assert [row["files"] for row in lines(run(*arguments, command=command))] == [0, 0]


def test_rsync_leaves_out_paths(run, here, lines, tree, tmp_path):
    run("rsync", str(tree), f"{here}:{tmp_path}/there", "--exclude", "sub/b")
    assert sorted(path.name for path in (tmp_path / "there").rglob("*")) == ["a", "c.pyc", "sub"]


def test_rsync_says_what_was_not_sent(run, here, lines, tree, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = run("rsync", str(tree), f"{here}:{tmp_path}/file/below", f"{here}:{tmp_path}/there")
    assert result.returncode == 1 and "Not a directory" in result.stderr
    assert (tmp_path / "there" / "a").read_text() == "a"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/no/such/source", "popen:/tmp/x"], "cannot read the source `/no/such/source`"),
        ([".", "popen"], "write SPEC:PATH"),
        (["."], "SPEC:PATH"),
        ([".", "popen:x", "--exclude", "["], "--exclude ["),
        ([".", "popen:x", "--on", "popen"], "unexpected argument '--on'"),
    ],
)
def test_rsync_mistakes(run, arguments, said):
    result = run("rsync", *arguments)
    assert result.returncode == 2 and said in result.stderr


def test_rsync_shows_progress(here, tree, tmp_path):
    (tree / "large").write_bytes(os.urandom(32 << 20))
    with shell.Terminal("rsync", str(tree), f"{here}:{tmp_path}/there", piped=True) as terminal:
        assert terminal.wait() == 0
        assert terminal.stdout.read().startswith(b'{"gateway":"gw0","files":4,')
    assert "MiB" in terminal.seen


def test_serve(command, run, here, lines, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("only we know\n")
    secret.chmod(0o600)
    words = [command, "serve", "127.0.0.1:0", "--secret-file", str(secret), "--python", sys.executable]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=shell.environment()) as server:
        port = server.stdout.readline().strip().rpartition(":")[2]
        result = run("run", "-c", "channel.send(1)", f"socket=127.0.0.1:{port}//secret_file={secret}", command=command)
        assert (result.returncode, lines(result)) == (0, [1]), result.stderr
        secret.write_text("something else\n")
        result = run("run", "-c", "channel.send(1)", f"socket=127.0.0.1:{port}//secret_file={secret}", command=command)
        assert result.returncode == 3 and "refused our secret" in result.stderr
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 0
    wait_until_gone(server.pid)


def test_serve_with_a_certificate(command, run, lines, tmp_path):
    secret, certificate, key = tmp_path / "secret", tmp_path / "cert.pem", tmp_path / "key.pem"
    secret.write_text("only we know\n")
    secret.chmod(0o600)
    files = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    made = run("serve", "--make-certificate", *files, "--python", sys.executable, command=command)
    assert made.returncode == 0 and made.stdout.startswith("tls=sha256:"), made.stderr
    words = [command, "serve", "127.0.0.1:0", "--secret-file", str(secret), *files, "--python", sys.executable]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=shell.environment()) as server:
        spec = f"socket=127.0.0.1:{server.stdout.readline().strip().rpartition(':')[2]}//secret_file={secret}"
        for tls in (f"tls={certificate}", made.stdout.strip()):
            result = run("run", "-c", "channel.send(1)", f"{spec}//{tls}", command=command)
            assert (result.returncode, lines(result)) == (0, [1]), result.stderr
        assert run("run", "-c", "channel.send(1)", f"{spec}//tls=sha256:{'0' * 64}", command=command).returncode == 3
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 0
    wait_until_gone(server.pid)


def test_serve_mistakes(run, tmp_path):
    assert "--tls-key" in run("serve", "--tls-cert", "cert.pem").stderr
    assert "write [HOST]:PORT" in run("serve", "8888").stderr
    result = run("serve", "--secret-file", "/no/such/file")
    assert result.returncode == 2 and "cannot read the secret" in result.stderr
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "empty").chmod(0o600)
    assert "has no secret in it" in run("serve", "--secret-file", str(tmp_path / "empty")).stderr
    result = run("serve", "--python", "no-such-python")
    assert result.returncode == 3 and "cannot run `no-such-python`" in result.stderr
    result = run("serve", ":7777", "-n", "--python", "python3")
    assert (result.returncode, result.stdout) == (0, "python3 - :7777 < socketserver.py\n")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completions_are_taken_by_the_shell(run, name, tmp_path):
    result = run("completions", name)
    assert result.returncode == 0
    for task in TASKS:
        assert task in result.stdout
    found = shutil.which(name)
    if found:
        (tmp_path / "completions").write_text(result.stdout)
        subprocess.run([found, "-n", str(tmp_path / "completions")], check=True)


def test_bash_completes(run, tmp_path):
    (tmp_path / "completions").write_text(run("completions", "bash").stdout)
    script = 'source "$1"; COMP_WORDS=(farexec sta); COMP_CWORD=1; _farexec farexec sta farexec; echo "${COMPREPLY[@]}"'
    result = subprocess.run(["bash", "-c", script, "bash", str(tmp_path / "completions")], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["status"]


def test_man_pages(command, run, tmp_path):
    page = run("man", command=command).stdout
    assert page.startswith(".ie") and ".TH farexec 1" in page and "no such" not in page
    assert "exit codes" in page.lower()
    assert "\\-\\-on\\-error" in run("man", "map", command=command).stdout
    assert run("man", "nothing", command=command).returncode == 2
    assert run("man", "--all", str(tmp_path / "man1"), command=command).returncode == 0
    pages = sorted((tmp_path / "man1").iterdir())
    assert [path.name for path in pages] == sorted(["farexec.1", *(f"farexec-{task}.1" for task in TASKS)])
    if groff := shutil.which("groff"):
        for path in pages:
            result = subprocess.run([groff, "-man", "-ww", "-Tutf8", "-P-cbou", path], capture_output=True, text=True, check=True)
            assert result.stderr == "" and "\n       Examples:\n         farexec" in result.stdout.replace("ls | ", "").replace(
                "seq 1000 | ", ""
            )


def test_help_has_examples(command, run):
    result = run("--help", command=command)
    assert result.returncode == 0 and result.stderr == ""
    for code in ("0", "1", "2", "3", "4", "130", "141"):
        assert f"\n{code:>5}  " in result.stdout
    for task in TASKS:
        assert task in result.stdout
        text = run(task, "--help", command=command).stdout
        assert "Examples:\n  " in text and "\x1b" not in text, task


def test_version_and_module(run, lines, here):
    assert run("--version").stdout == f"farexec {farexec.__version__}\n"
    words = [sys.executable, "-m", "farexec", "run", "-c", "channel.send(1)", here]
    result = subprocess.run(words, capture_output=True, text=True, env=shell.environment(), check=False)
    assert (result.returncode, lines(result), result.stderr) == (0, [1], "")


def test_no_command_and_one_that_is_not_there(run):
    assert run().returncode == 2
    result = run("statsu")
    assert result.returncode == 2 and "'status'" in result.stderr
