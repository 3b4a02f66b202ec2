"""The README and some pages of docs/ are run: their fenced blocks are taken out and executed as they stand.

Each part has an empty folder.
A block ```` ```python NAME ```` becomes the file NAME; ```` ```sh ```` is run by bash, in the background if it starts a
scheduler or a worker; ```` ```text ```` is what the command before it prints, where … stands for anything. Only the
address is replaced, so that tests do not meet on one port.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.ports import steady_port

README = Path(__file__).parents[2] / "README.md"
PAGES = [Path(__file__).parents[2] / "docs" / name for name in ("client.md", "retries.md", "celery.md")]
ADDRESS = "127.0.0.1:5555"
FENCE = re.compile(r"^```(?P<kind>\w+)(?: (?P<title>[^\n]+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
DAEMON = re.compile(r"^zmqtasks (scheduler|worker) ")


def sections():
    """The starts of the README: title → text."""
    return _split(README.read_text().partition("\n## Sixty seconds\n")[2].partition("\n## ")[0], "###")


def page_sections():
    """The parts of these pages that show something which runs: title → text."""
    parts = [part for page in PAGES for part in _split(page.read_text(), "##").items()]
    return {title: text for title, text in parts if any(block["kind"] == "sh" for block in FENCE.finditer(text))}


def _split(text, mark):
    parts = re.split(rf"^{mark} (.+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


class Folder:
    """An empty folder in which blocks are executed."""

    def __init__(self, path):
        self.path = path
        self.address = f"127.0.0.1:{steady_port()}"
        self.daemons = []
        self.printed = None
        bin_folder = Path(sys.executable).parent
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("ZMQTASKS_BROKER")}
        self.env |= {"PATH": f"{bin_folder}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}

    def do(self, kind, title, text):
        text = text.replace(ADDRESS, self.address)
        if kind == "python":
            (self.path / title).write_text(text)
        elif kind == "text":
            self.compare(text)
        elif DAEMON.match(text):
            self.start(text)
        else:
            done = self.bash(text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.printed = done.communicate(timeout=60)[0]

    def bash(self, text, **streams):
        return subprocess.Popen(["bash", "-c", text], cwd=self.path, env=self.env, text=True, **streams)

    def start(self, text):
        log = self.path / f"daemon{len(self.daemons)}.log"
        with log.open("w") as output:
            daemon = self.bash(f"exec {text}", stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.daemons.append((daemon, log))
        deadline = time.monotonic() + 20
        while not re.search(r"^zmqtasks \w+.* ready", log.read_text(), re.MULTILINE):
            assert daemon.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"{text} is not ready:\n{log.read_text()}"
            time.sleep(0.02)

    def compare(self, expected):
        printed, self.printed = self.printed, None
        pattern = re.escape(expected.strip()).replace("…", ".*")
        assert re.fullmatch(pattern, printed.strip()), f"expected:\n{expected}\nprinted:\n{printed}"

    def stop(self):
        """End the daemons as Ctrl-C in their terminals would, the youngest first."""
        codes = []
        for daemon, log in reversed(self.daemons):
            daemon.terminate()
            try:
                codes.append((daemon.wait(20), log.read_text()))
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
                raise
        assert all(code == 0 for code, _ in codes), codes


@pytest.mark.parametrize("title", [*sections(), *page_sections()])
def test_it_works_as_written(title, tmp_path):
    blocks = list(FENCE.finditer((sections() | page_sections())[title]))
    folder = Folder(tmp_path)
    try:
        for block in blocks:
            folder.do(block["kind"], block["title"], block["text"])
    finally:
        folder.stop()
    assert folder.printed is None, f"what the last command printed is not written there:\n{folder.printed}"


def test_all_three_uses_are_there():
    assert list(sections()) == [
        "In one script",
        "A scheduler, workers, and a batch from a script",
        "Command line only",
    ]
    for text in sections().values():
        assert {block["kind"] for block in FENCE.finditer(text)} >= {"sh", "text"}


def test_it_ends_with_the_reading_order():
    places = [README.read_text().rindex(name) for name in ("wire.py", "core/core.py", "daemon.py", "worker/child.py")]
    assert places == sorted(places)
