"""The measured page in a real headless browser: it sorts, tells provenance, fits a phone, and has a dark mode."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=4000",
    "--enable-logging=stderr", "--dump-dom",
)  # fmt: skip
# The page in a frame as wide as a phone: what is clicked and read there is what a reader would.
PROBE = """
addEventListener("load", () => {
  const frame = document.querySelector("iframe"), page = frame.contentDocument, view = frame.contentWindow;
  const out = {}, table = page.querySelector("#coverage table"), heads = table.tHead.rows[0].cells;
  const first = () => table.tBodies[0].rows[0].cells[0].textContent;
  const all = (at) => [...table.tBodies[0].rows].map((row) => row.cells[at].textContent.trim());
  out.width = [page.documentElement.scrollWidth, page.documentElement.clientWidth];
  out.before = first();
  heads[0].querySelector("button").click();
  out.up = [all(0), heads[0].getAttribute("aria-sort")];
  heads[0].querySelector("button").click();
  out.down = [first(), heads[0].getAttribute("aria-sort")];
  heads[3].querySelector("button").click();
  out.numbers = [all(3), heads[0].getAttribute("aria-sort"), heads[3].getAttribute("aria-sort")];
  const number = page.querySelector(".from"), panel = page.getElementById("from");
  number.focus();
  out.focused = [panel.hidden, panel.textContent];
  number.click();
  out.kept = [panel.hidden, number.getAttribute("aria-expanded")];
  const box = panel.getBoundingClientRect();
  out.inside = box.left >= 0 && box.right <= frame.clientWidth;
  page.dispatchEvent(new view.KeyboardEvent("keydown", { key: "Escape" }));
  out.closed = [panel.hidden, page.activeElement === number];
  out.colours = [view.getComputedStyle(page.body).backgroundColor, view.getComputedStyle(page.body).color];
  out.figures = [...page.images].map((image) => [image.complete, image.naturalWidth]);
  out.buttons = [...page.querySelectorAll("th .sort")].length;
  document.getElementById("out").textContent = JSON.stringify(out);
});
"""


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    if BROWSER is None:
        pytest.skip("no chromium or chrome on this machine: the page is not opened in a browser")
    folder = tmp_path_factory.mktemp("report")
    page = folder / "report.html"
    command = [sys.executable, ROOT / "scripts" / "report.py", "--out", page, "--tables", folder / "tables"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    text = html.escape(page.read_text())
    frame = f'<iframe width="390" height="844" srcdoc="{text}"></iframe><pre id="out"></pre><script>{PROBE}</script>'
    (folder / "frame.html").write_text(f"<!doctype html><meta charset=utf-8><body>{frame}</body>")

    def open_page(*flags: str) -> dict:
        profile = folder / f"profile{len(flags)}"
        command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, f"file://{folder / 'frame.html'}"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert found.returncode == 0, found.stderr[-2000:]
        said = [line for line in found.stderr.splitlines() if "CONSOLE" in line]
        result = re.search(r'<pre id="out">(.+?)</pre>', found.stdout, re.DOTALL)
        assert result, said or found.stderr[-2000:]
        return {**json.loads(html.unescape(result[1])), "console": said}

    return open_page


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first: str, second: str) -> float:
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.timeout(300)
def test_on_a_phone(look):
    found = look()
    assert not found["console"]
    assert found["width"][0] <= found["width"][1] <= 390, "the page itself must not scroll sideways"
    up, direction = found["up"]
    assert direction == "ascending"
    assert len(up) == 38
    assert up == sorted(up, key=str.casefold)
    assert found["down"] == [up[-1], "descending"]
    numbers, forgotten, sorted_by = found["numbers"]
    assert (forgotten, sorted_by) == (None, "ascending")
    values = [float(text.split()[0]) for text in numbers if text]
    assert values == sorted(values)
    assert numbers[len(values) :] == [""] * (38 - len(values))
    hidden, text = found["focused"]
    assert not hidden
    assert "python scripts/train.py" in text
    assert "commit" in text
    assert found["kept"] == [False, "true"]
    assert found["inside"]
    assert found["closed"] == [True, True]
    assert all(done and width > 0 for done, width in found["figures"])
    background, ink = found["colours"]
    assert _luminance(background) > 0.8
    assert _contrast(background, ink) > 7
    assert found["buttons"] > 40


@pytest.mark.timeout(300)
def test_in_the_dark(look):
    found = look("--blink-settings=preferredColorScheme=0")
    assert not found["console"]
    background, ink = found["colours"]
    assert _luminance(background) < 0.05
    assert _contrast(background, ink) > 7
