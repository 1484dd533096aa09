"""Take the pictures that the documentation shows, from real runs.

``python -m docs.pictures.make`` serves the demo site on port 8080, fetches its list in terminals of two sizes, and writes
what they show beside itself as SVG, and the last run's report as PNG. It needs tmux and Chromium.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from tests.browser import browser_path, opened

HERE: Final = Path(__file__).parent
SITE: Final = "http://127.0.0.1:8080/"
#: Slow enough for large files to be seen.
COMMAND: Final = "fetcher get urls.txt --max-speed 8M"

#: The size of a character, and the room around all of them, in pixels.
WIDE, HIGH, SIZE, MARGIN = 8.4, 19, 14, 14
STYLE: Final = f"""
rect {{ fill: #181a1f }}
text {{ font: {SIZE}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d6dae0 }}
.dim {{ fill: #868b95 }}
.red {{ fill: #f07178 }}
"""
#: Which styles begin and end with the control functions that tmux gives back; the others are those of the ground.
BEGINS: Final = {"2": {"dim"}, "31": {"red"}}
ENDS: Final = {"": {"dim", "red"}, "0": {"dim", "red"}, "22": {"dim"}, "39": {"red"}}


@contextmanager
def site() -> Iterator[bytes]:
    """Serve the demo site while the context lasts, and yield its list."""
    with subprocess.Popen(["fetcher", "demo", "--serve", "8080"], stdout=subprocess.PIPE) as server:
        try:
            if server.stdout is None or not server.stdout.readline():
                sys.exit("port 8080 is not free")
            with urlopen(SITE) as response:
                yield response.read()
        finally:
            server.terminate()


class Terminal:
    """A terminal of some size, in which a shell works in ``directory``."""

    def __init__(self, width: int, height: int, directory: Path) -> None:
        self._socket = str(directory / "tmux")
        size = ["-x", str(width), "-y", str(height), "-c", str(directory)]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "env", "PS1=$ ", "sh")

    def type(self, line: str) -> None:
        """Type a line."""
        self._tmux("send-keys", line, "Enter")

    def wait_for(self, is_there: Callable[[str], object]) -> list[str]:
        """Return the rows, with the control functions for their styles, as soon as what is wanted is there."""
        rows = ""
        for _ in range(600):
            rows = self._tmux("capture-pane", "-e", "-p").rstrip("\n")
            if is_there(re.sub(r"\x1b\[[\d;]*m", "", rows)):
                return rows.splitlines()
            time.sleep(0.05)
        sys.exit(f"the terminal never showed what was wanted:\n{rows}")

    def close(self) -> None:
        """End all that works in it."""
        self._tmux("kill-server")

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-S", self._socket, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout


def picture(title: str, rows: list[str], width: int) -> str:
    """Return rows of a terminal as SVG; each word stands where it stood, whatever font there is."""
    lines: list[str] = []
    styles: set[str] = set()  # which one row leaves on for the next
    for row, text in enumerate(rows):
        column = 0
        for codes, words in re.findall(r"\x1b\[([\d;]*)m|([^\x1b]+)", text):
            if not words:
                for code in codes.split(";"):
                    styles = styles - ENDS.get(code, set()) | BEGINS.get(code, set())
            for word in re.finditer(r"\S+(?: \S+)*", words):
                x, y = MARGIN + (column + word.start()) * WIDE, MARGIN + row * HIGH + SIZE
                kind = f' class="{" ".join(sorted(styles))}"' if styles else ""
                long = f' textLength="{len(word[0]) * WIDE:.1f}" lengthAdjust="spacingAndGlyphs"'
                lines.append(f'<text x="{x:.1f}" y="{y}"{long}{kind}>{escape(word[0])}</text>')
            column += len(words)
    size = f"{2 * MARGIN + width * WIDE:.0f} {2 * MARGIN + len(rows) * HIGH}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img">'
    ground = '<rect width="100%" height="100%" rx="8"/>'
    return "\n".join([head, f"<title>{title}</title>", f"<style>{STYLE}</style>", ground, *lines, "</svg>\n"])


def photograph(report: Path) -> None:
    """Take the head of a report, and its charts."""
    path = browser_path() or sys.exit("Chromium is not installed")
    with opened(path, report.parent / "profile") as tab:
        tab.look(width=1000)
        tab.open(report.as_uri())
        places = ("why-urls-failed", "over-time", "hosts")
        failures, charts, hosts = (tab.evaluate(f"document.getElementById('{place}').offsetTop") for place in places)
        tab.picture(HERE / "report.png", 0, failures)
        tab.picture(HERE / "report-charts.png", charts - 30, hosts - charts)


def main() -> None:
    """Take all pictures."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with site() as urls:
        for width, height in ((80, 24), (120, 40)):
            with tempfile.TemporaryDirectory() as name:
                directory = Path(name)
                (directory / "urls.txt").write_bytes(urls)
                terminal = Terminal(width, height, directory)
                try:
                    terminal.type(f"clear; {COMMAND}")
                    live = terminal.wait_for(
                        re.compile(r"ETA \d[\s\S]* 0:00:0[5-9] [\s\S]* size +done[\s\S]* [2-9]\d%[\s\S]*hosts").search
                    )
                    after = terminal.wait_for(re.compile("^report ", re.MULTILINE).search)
                finally:
                    terminal.close()
                subprocess.run(["fetcher", "report", "fetched"], cwd=directory, check=True)
                photograph(directory / "fetched/.fetcher/report.html")
            (HERE / f"live-{width}x{height}.svg").write_text(picture("fetcher at work in a terminal", live, width))
    after = [f"$ {COMMAND}", *(row for row in after if row != "$")]
    (HERE / "summary-120x40.svg").write_text(picture("what fetcher says at the end", after, 120))


if __name__ == "__main__":
    main()
