"""The hosts file: names and groups on the command line, where the file is looked for, and what is said of mistakes in it."""

import pytest

HOSTS = """
[defaults]
python = "python3.12"

[hosts]
web = "ssh=web[01-02]"
gpu = { ssh = "me@gpu.example", nice = 5, env = { DEVICES = "0" } }

[groups]
all = ["web", "gpu", "popen*2"]
"""


@pytest.fixture
def hosts(tmp_path):
    path = tmp_path / "hosts.toml"
    path.write_text(HOSTS)
    return path


def specs(lines, result):
    assert result.returncode == 0, result.stderr
    return {row["gateway"]: row["spec"] for row in lines(result)}


def test_names_and_groups(run, lines, hosts):
    assert specs(lines, run("run", "-c", "1", "all", "--hosts", str(hosts), "-n")) == {
        "web-1": "ssh=web01//python=python3.12",
        "web-2": "ssh=web02//python=python3.12",
        "gpu": "ssh=me@gpu.example//env:DEVICES=0//nice=5//python=python3.12",
        "gw0": "popen",
        "gw1": "popen",
    }


def test_where_the_file_is(run, lines, hosts, tmp_path):
    named = run("status", "gpu", "-n", FAREXEC_HOSTS=str(hosts))
    assert list(specs(lines, named)) == ["gpu"]
    own = tmp_path / "config" / "farexec"
    own.mkdir(parents=True)
    hosts.rename(own / "hosts.toml")
    found = run("status", "gpu*2", "-n", XDG_CONFIG_HOME=str(tmp_path / "config"))
    assert list(specs(lines, found)) == ["gpu-1", "gpu-2"]
    assert run("status", "gpu", "-n").returncode == 2


def test_a_worker_by_name(run, lines, hosts, here):
    hosts.write_text(f'[hosts]\nme = "{here}"\n')
    result = run("run", "-c", "channel.send(channel.gateway.id)", "me", "--hosts", str(hosts))
    assert lines(result) == ["me-worker"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[hosts\n", "line 1: "),
        ("\n[host]\n", "line 2: unknown key `host`"),
        (
            '[hosts]\nweb = "ssh=web//pyhton=x"\n',
            "line 2: the host `web`: unknown key `pyhton` in `ssh=web//pyhton=x`: did you mean `python`?",
        ),
        ('[hosts.web]\nssh = "web"\nchdri = "/"\n', "line 3: unknown key `chdri`"),
        ('[groups]\nall = ["web"]\n', "line 2: `web` in the group `all` is no name of this file, and no spec"),
    ],
)
def test_mistakes_are_told_with_file_line_and_key(run, hosts, text, said):
    hosts.write_text(text)
    result = run("status", "--hosts", str(hosts))
    assert (result.returncode, result.stdout) == (2, "")
    assert f"farexec: {hosts}, {said}" in result.stderr


def test_a_name_that_is_not_there(run, hosts):
    result = run("status", "wbe", "--hosts", str(hosts))
    assert result.returncode == 2
    assert "has the names gpu, web, all" in result.stderr
