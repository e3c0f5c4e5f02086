"""Makes the pictures of `farexec top` under docs/pictures: its screen, and its page in light and in dark, of a program that really runs.

`target/venv/bin/python tests/pictures.py` takes a minute and a half. It needs sshd and chromium, which `.ci/install` installs.
"""

import html
import itertools
import pathlib
import subprocess
import sys
import tempfile

import pyte
from playwright.sync_api import Browser, sync_playwright

import servers
import shell

PICTURES = pathlib.Path(__file__).parents[1] / "docs" / "pictures"
ROWS, COLUMNS = 14, 126

# Seconds that the program runs before it is looked at, so that there is something to be seen in the timeline.
BEFORE = 62

PROGRAM = """
import random
import sys
import time

import farexec


def work(item):
    import os
    import sys
    import time

    number, seconds, fails, once = item
    if once and not os.path.exists(once):
        open(once, "w").close()
        sys.stderr.write("cannot allocate memory for batch %d" % number)
        sys.stderr.flush()
        os._exit(1)
    time.sleep(seconds)
    if fails:
        raise ValueError("no luck with %d" % number)
    return bytes(1000 * number % 50000)


folder, config = sys.argv[1:]
chance = random.Random(7)


def items(count, seconds):
    for number in range(count):
        death = f"{folder}/{number}" if number == 2 * count // 3 else ""
        yield number, chance.expovariate(1 / seconds), chance.random() < 0.04, death


specs = [f"popen//id=here-{number}" for number in (1, 2, 3)]
specs += [f"ssh=farexec-host//ssh_config={config}//python={sys.executable}//id=web-{number}" for number in (1, 2, 3)]
with farexec.Group(specs) as group:
    while True:
        for count, seconds in ((700, 0.1), (120, 0.5)):
            for _ in group.map(work, items(count, seconds), on_error="return", ordered=False):
                pass
            time.sleep(4)
"""

STYLE = """
<meta charset="utf-8">
<style>
body { margin: 0; background: #14171b; }
pre { margin: 0; padding: 12px 16px; display: inline-block; color: #d8dce1; font: 14px/1.3 "DejaVu Sans Mono", monospace; }
</style>
"""
# What a terminal makes of the colours that the screen has: ratatui's red and yellow.
COLORS = {"cd0000": "#ff7b72", "cdcd00": "#e3b341", "default": "inherit"}


def as_html(screen: pyte.Screen) -> str:
    """What a terminal shows; cells that look alike are one piece, so that there are no seams between them."""
    pieces = []
    for row in range(screen.lines):
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        for style, alike in itertools.groupby(cells, style_of):
            pieces.append(f'<span style="{style}">{html.escape("".join(cell.data for cell in alike))}</span>')
        pieces.append("\n")
    return f"{STYLE}<pre>{''.join(pieces)}</pre>"


def style_of(cell: pyte.screens.Char) -> str:
    if cell.reverse:
        return "color: #14171b; background: #d8dce1;"
    return f"color: {COLORS[cell.fg]};" + ("font-weight: bold;" if cell.bold else "")


def take_screen(browser: Browser, runtime: str) -> None:
    with shell.Terminal("top", XDG_RUNTIME_DIR=runtime) as terminal:
        terminal.resize(ROWS, COLUMNS)
        terminal.wait_for("KiB")  # a rate, which there is after the second look
        screen = pyte.Screen(COLUMNS, ROWS)
        pyte.Stream(screen).feed(terminal.seen)
    page = browser.new_page(device_scale_factor=1.5)
    page.set_content(as_html(screen))
    page.locator("pre").screenshot(path=PICTURES / "top.png")
    page.close()


def take_pages(browser: Browser, address: str) -> None:
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme, viewport={"width": 1200, "height": 400})
        page.goto(address)
        page.wait_for_selector("#lanes canvas")
        # Until it was drawn more than once.
        page.wait_for_timeout(1000)
        page.screenshot(path=PICTURES / f"top-web-{scheme}.png", full_page=True)
        page.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "program.py").write_text(PROGRAM)
        environment = shell.environment(XDG_RUNTIME_DIR=name, FAREXEC_MONITOR="1")
        with servers.sshd(folder) as sshd, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=servers.executable("chromium"))
            program = subprocess.Popen([sys.executable, folder / "program.py", name, sshd.config], env=environment)
            try:
                top = look(name)
                try:
                    assert top.stdout is not None
                    address = top.stdout.readline().strip()
                    browser.new_page().wait_for_timeout(BEFORE * 1000)
                    take_screen(browser, name)
                    take_pages(browser, address)
                finally:
                    top.kill()
                    top.communicate()
            finally:
                program.kill()
                program.wait()
            browser.close()


def look(runtime: str) -> subprocess.Popen[str]:
    """`farexec top --web`, once there is a program to look at."""
    environment = shell.environment(XDG_RUNTIME_DIR=runtime)
    while shell.run("top", "--once", XDG_RUNTIME_DIR=runtime).returncode != 0:
        pass
    command = [shell.COMMAND, "top", "--web", "--interval=0.2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


if __name__ == "__main__":
    main()
