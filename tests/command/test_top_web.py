"""`farexec top --web`: whom it answers, what it tells, and the page of it as a browser shows it (headless Chromium)."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import expect, sync_playwright

import servers
import shell

# The browser decides within this time whether the page is as it is to be.
PATIENCE = 30_000
expect.set_options(timeout=PATIENCE)

MARKUP = "<img src=x onerror=\"document.title='taken over'\">"


class Web:
    """A running `farexec top --web`. `get` asks it as a browser would, and returns status, headers and contents."""

    def __init__(self, program, *arguments):
        command = [shell.COMMAND, "top", "--web", "--interval=0.05", *arguments]
        environment = shell.environment(XDG_RUNTIME_DIR=program.runtime)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.address = self.process.stdout.readline().strip()
        self.port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/[\w-]{43}/", self.address)[1])

    def get(self, path="", start=None, method="GET", host=None):
        headers = {} if host is None else {"Host": host}
        request = urllib.request.Request((start or self.address) + path, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.status, answer.headers, answer.read().decode()

    def state(self, query=""):
        status, headers, contents = self.get(f"state{query}")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        return json.loads(contents)

    def wait_until(self, is_so):
        """Waits until the state is so; returns it."""
        deadline = time.monotonic() + 30
        while not is_so(state := self.state()):
            assert time.monotonic() < deadline, state
            time.sleep(0.02)
        return state

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def serve():
    """Starts `farexec top --web` of a program."""
    with contextlib.ExitStack() as started:

        def start(program, *arguments):
            program.wait_for_work()
            web = Web(program, *arguments)
            started.callback(web.close)
            return web

        yield start


def test_nobody_without_the_token_is_told_anything(watch, serve):
    web = serve(watch())
    root = f"http://127.0.0.1:{web.port}/"
    token = web.address.removeprefix(root).rstrip("/")
    other = ("B" if token[0] == "A" else "A") + token[1:]
    assert web.get("state")[0] == 200
    paths = ["", "state", "page.js", token, f"state?{token}", f"x/{token}/state"]
    for path in [*paths, f"{token}x/state", f"{token[:-1]}/state", f"{other}/", f"{other}/state"]:
        status, _, contents = web.get(path, start=root)
        assert (status, contents) == (404, "There is no such page: take the address that farexec top wrote, to its last slash.\n"), path


def test_each_has_a_token_of_its_own(watch, serve):
    program = watch()
    first, second = serve(program), serve(program)
    assert first.address.split("/")[3] != second.address.split("/")[3]


@pytest.mark.parametrize("host", ["example.org", "example.org:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}", "0.0.0.0:{port}", ""])
def test_by_another_name_nobody_is_told_anything(watch, serve, host):
    web = serve(watch())
    host = host.format(port=web.port)
    for path in ("", "state"):
        status, _, contents = web.get(path, host=host)
        assert (status, contents) == (403, "This page is not known by that name: take the address that farexec top wrote.\n")
    assert web.get("state", host=f"localhost:{web.port}")[0] == 200


def test_without_a_name_nobody_is_told_anything(watch, serve):
    web = serve(watch())
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        path = web.address.split(str(web.port))[1]
        connection.sendall(f"GET {path}state HTTP/1.0\r\n\r\n".encode())
        assert b" 403 " in connection.recv(1000)


def test_it_listens_at_one_address_only(watch, serve):
    web = serve(watch())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", web.port), timeout=30)


def test_it_can_only_be_looked_at(watch, serve):
    web = serve(watch())
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert web.get("state", method=method)[0] == 405
    status, headers, contents = web.get("state", method="HEAD")
    assert (status, contents) == (200, "") and headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("path", ["", "page.js", "page.css", "state", "none"])
def test_what_browsers_are_told_of_every_answer(watch, serve, path):
    _, headers, contents = serve(watch()).get(path)
    policy = dict(rule.split(maxsplit=1) for rule in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'" and policy["frame-ancestors"] == "'none'"
    assert not any("unsafe" in rule or "*" in rule for rule in policy.values())
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store" and "Access-Control-Allow-Origin" not in headers
    # Nothing of the page comes from elsewhere.
    assert path == "state" or re.search("(https?:)?//[a-z]", contents) is None


def test_the_state_is_what_the_program_tells(watch, serve):
    program = watch()
    told = program.wait_for_work()
    web = serve(program)
    state = web.state()
    assert state["head"] == f"process {program.process.pid} runs: 2 gateways, 0 restarts"
    assert (state["ended"], state["last_error"], state["interval"], state["span"]) == (False, None, 0.05, 15.0)
    names = [column["name"] for column in state["columns"]]
    assert names[:4] == ["gateway", "state", "pid", "channels"]
    pids = [str(gateway["pid"]) for gateway in told["groups"][0]["gateways"]]
    assert [row["cells"][:6] for row in state["rows"]] == [[f"gw{i}", "running", pids[i], "1", "1", "0"] for i in (0, 1)]
    assert [row["cells"][0] for row in web.state("?sort=0&reversed")["rows"]] == ["gw1", "gw0"]
    by_pid = web.state(f"?sort={names.index('pid')}")["rows"]
    assert [int(row["cells"][2]) for row in by_pid] == sorted(map(int, pids))
    # What cannot be sorted by is not.
    for query in ("?sort=99", "?sort=-1", "?sort=x", "?sort="):
        assert [row["cells"][0] for row in web.state(query)["rows"]] == ["gw0", "gw1"]


def test_the_timeline_tells_who_did_what(watch, serve):
    program = watch()
    web = serve(program)
    told = web.state()["timeline"]
    assert [lane["name"] for lane in told["lanes"]] == ["gw0", "gw1"]
    assert all(lane["slices"][-1] == ["busy", 0, 0] for lane in told["lanes"])
    program.let_end(0)
    program.let_end(1, "no luck")

    def sums(state, which):
        return [sum(piece[which] for piece in lane["slices"] if piece) for lane in state["timeline"]["lanes"]]

    state = web.wait_until(lambda state: sum(sums(state, 1) + sums(state, 2)) == 2)
    assert sorted(zip(sums(state, 1), sums(state, 2), strict=True)) == [(0, 1), (1, 0)]
    times = state["timeline"]["times"]
    assert times == sorted(times) and all(len(lane["slices"]) == len(times) for lane in state["timeline"]["lanes"])


def test_a_worker_that_was_lost(watch, serve):
    program = watch()
    web = serve(program)
    program.let_end(0, f"die: {MARKUP}\n")
    state = web.wait_until(lambda state: state["last_error"])
    assert "1 restarts" in state["head"] and MARKUP in state["last_error"]


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(watch, serve, asked):
    web = serve(watch())
    assert web.get()[0] == 200
    os.kill(web.process.pid, asked)
    assert web.process.wait(30) == 130


def test_who_asks_and_reads_nothing_does_not_keep_it_from_ending(watch, serve):
    web = serve(watch())
    with socket.socket() as connection:
        connection.settimeout(30)
        # The less there is room for here, the sooner the answers have nowhere to go.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", web.port))
        connection.sendall(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n" * 50_000)
        deadline = time.monotonic() + 30
        with pytest.raises(TimeoutError):
            while time.monotonic() < deadline:
                urllib.request.urlopen(web.address, timeout=1).close()
        os.kill(web.process.pid, signal.SIGTERM)
        assert web.process.wait(30) == 130


def test_at_a_terminal_it_says_how_it_ends(watch):
    program = watch()
    program.wait_for_work()
    with shell.Terminal("top", "--web", XDG_RUNTIME_DIR=program.runtime) as terminal:
        terminal.wait_for("http://127.0.0.1:")
        terminal.wait_for("Ctrl-C ends it.")
        terminal.press(shell.CTRL_C)
        assert terminal.wait() == 130


def test_a_port_of_ones_own(watch, serve):
    program = watch()
    port = servers.free_port()
    assert serve(program, f"--port={port}").port == port
    result = program.top("--web", f"--port={port}")
    assert result.returncode == 1 and f"cannot listen at 127.0.0.1:{port}: " in result.stderr


@pytest.mark.parametrize("arguments", ["--port=1", "--web --once", "--web --json", "--web --port=65536", "--web --port=x"])
def test_arguments_that_cannot_be(arguments):
    assert shell.run("top", *arguments.split()).returncode == 2


def test_without_a_program(tmp_path):
    result = shell.run("top", "--web", XDG_RUNTIME_DIR=str(tmp_path))
    assert result.returncode == 2 and "there is no program to look at" in result.stderr


@pytest.fixture(scope="module")
def chromium():
    """A running browser."""
    servers.need("chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=servers.executable("chromium"))
        yield running
        running.close()


@pytest.fixture
def look(chromium):
    """Opens a page, in a browser that knows nothing of other pages; what goes wrong in it fails the test."""
    wrong = []
    with contextlib.ExitStack() as opened:

        def open_page(web, scheme="light"):
            context = opened.enter_context(contextlib.closing(chromium.new_context(color_scheme=scheme)))
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(web.address)
            expect(page.locator("#head")).to_contain_text("process")
            return page

        yield open_page
    assert wrong == []


def cells(page):
    """What the table shows, row by row."""
    return page.locator("#gateways tbody tr").evaluate_all("rows => rows.map(row => [...row.children].map(cell => cell.textContent))")


def pixels(page, number, color):
    """How many pixels of a lane have a colour of the style sheet."""
    return page.locator("#lanes canvas").nth(number).evaluate(
        """(canvas, color) => {
            const probe = document.createElement("canvas").getContext("2d");
            probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--" + color).trim();
            probe.fillRect(0, 0, 1, 1);
            const wanted = probe.getImageData(0, 0, 1, 1).data;
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            let count = 0;
            for (let i = 0; i < data.length; i += 4) {
                if (wanted.every((value, part) => data[i + part] === value)) count += 1;
            }
            return count;
        }""",
        color,
    )


def wait_for_pixels(page, number, color):
    deadline = time.monotonic() + 30
    while pixels(page, number, color) == 0:
        assert time.monotonic() < deadline, f"nothing in lane {number} is {color}"
        page.wait_for_timeout(50)


def test_the_page_shows_what_happens_as_it_happens(watch, serve, look):
    program = watch()
    told = program.wait_for_work()
    page = look(serve(program))
    pids = [str(gateway["pid"]) for gateway in told["groups"][0]["gateways"]]
    assert [row[:6] for row in cells(page)] == [[f"gw{i}", "running", pids[i], "1", "1", "0"] for i in (0, 1)]
    expect(page.locator("#lanes b")).to_have_text(["gw0", "gw1"])
    expect(page.locator("#lanes i")).to_have_text(["0 done, 0 raised"] * 2)
    wait_for_pixels(page, 0, "busy")
    assert pixels(page, 0, "done") == 0 and pixels(page, 0, "failed") == 0

    program.let_end(0)
    program.let_end(1, "no luck")
    expect(page.locator("#lanes i", has_text="0 done, 1 raised")).to_have_count(1)
    expect(page.locator("#lanes i", has_text="1 done, 0 raised")).to_have_count(1)
    assert sorted(row[5] for row in cells(page)) == ["0", "1"]
    raised = next(number for number in (0, 1) if "1 raised" in page.locator("#lanes i").nth(number).inner_text())
    wait_for_pixels(page, raised, "failed")
    wait_for_pixels(page, 1 - raised, "done")
    assert pixels(page, 1 - raised, "failed") == 0

    program.finish(code=1)
    expect(page.get_by_role("status")).to_have_text("The program has ended. This is what it told last.")
    expect(page.locator("#head")).to_contain_text("has ended")


def test_the_page_says_why_a_worker_was_lost_and_takes_nothing_of_it_for_markup(watch, serve, look):
    program = watch()
    page = look(serve(program))
    expect(page.locator("#last-error")).to_be_hidden()
    program.let_end(0, f"die: {MARKUP}\n")
    expect(page.locator("#last-error")).to_contain_text(MARKUP)
    expect(page.locator("#head")).to_contain_text("1 restarts")
    assert page.locator("img").count() == 0 and "taken over" not in page.title()


def test_the_page_sorts_by_any_column(watch, serve, look):
    page = look(serve(watch()))
    order = lambda: [row[0] for row in cells(page)]  # noqa: E731
    assert order() == ["gw0", "gw1"]
    heading = page.get_by_role("columnheader", name="gateway")
    expect(heading).to_have_attribute("aria-sort", "ascending")
    heading.get_by_role("button").click()
    expect(page.locator("#gateways tbody th")).to_have_text(["gw1", "gw0"])
    expect(heading).to_have_attribute("aria-sort", "descending")
    # By the keyboard alone.
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("columnheader", name="state")).to_have_attribute("aria-sort", "ascending")
    expect(heading).to_have_attribute("aria-sort", "none")


def test_the_page_says_that_the_command_has_ended(watch, serve, chromium):
    web = serve(watch())
    with contextlib.closing(chromium.new_page()) as page:
        page.goto(web.address)
        expect(page.locator("#gateways tbody tr")).to_have_count(2)
        os.kill(web.process.pid, signal.SIGTERM)
        assert web.process.wait(30) == 130
        expect(page.get_by_role("status")).to_have_text("farexec top does not answer any more. This is what it told last.")
        assert len(cells(page)) == 2


def test_a_hundred_gateways(watch, serve, look):
    program = watch(workers=100)
    page = look(serve(program))
    expect(page.locator("#gateways tbody tr")).to_have_count(100)
    expect(page.locator("#lanes canvas")).to_have_count(100)
    wait_for_pixels(page, 99, "busy")
    # In the order in which people count.
    assert [row[0] for row in cells(page)] == [f"gw{number}" for number in range(100)]
    for number in range(100):
        program.let_end(number)
    expect(page.locator("#lanes i", has_text="1 done")).to_have_count(100)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_the_page_shows_can_be_read_in_light_and_in_dark(watch, serve, look, scheme):
    page = look(serve(watch()), scheme)
    ratio = lambda first, second: page.evaluate(CONTRAST, [first, second])  # noqa: E731
    assert (page.evaluate(LUMINANCE, "ground") < 0.2) == (scheme == "dark")
    for text in ("text", "faint", "bad", "soon"):
        for ground in ("ground", "raised"):
            assert ratio(text, ground) >= 4.5, (text, ground)
    # As WCAG 2.1 has it: 4.5 for text, 3 for what is drawn.
    for bar in ("done", "failed"):
        for ground in ("busy", "open", "idle"):
            assert ratio(bar, ground) >= 3, (bar, ground)
    # It follows when the scheme changes.
    wait_for_pixels(page, 0, "busy")
    page.emulate_media(color_scheme="light" if scheme == "dark" else "dark")
    wait_for_pixels(page, 0, "busy")


LUMINANCE = """(name) => {
    const color = getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
    const parts = [1, 3, 5].map((place) => parseInt(color.slice(place, place + 2), 16) / 255);
    const [red, green, blue] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}"""

CONTRAST = f"""(names) => {{
    const [light, dark] = names.map({LUMINANCE}).sort((first, second) => second - first);
    return (light + 0.05) / (dark + 0.05);
}}"""


def test_the_page_can_be_heard(watch, serve, look):
    page = look(serve(watch()))
    for name in ("Gateways", "Timeline"):
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    assert page.get_by_role("table").count() == 1 and page.get_by_role("rowheader").count() == 2
    pictures = page.get_by_role("img")
    expect(pictures).to_have_count(2)
    for number in (0, 1):
        expect(pictures.nth(number)).to_have_attribute("aria-label", re.compile(rf"gw{number}: busy at \d+ of \d+ looks, 0 done, 0 raised"))
