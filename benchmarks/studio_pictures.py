"""The pictures of docs/studio.md: the page's sections, with clips that the default model makes.

    python benchmarks/studio_pictures.py docs [--runs RUNS] [--dark]

Needs Playwright and Debian's Chromium; --runs is a folder of a training's runs, for its section.
"""

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
SIZE: Any = {"width": 1200, "height": 860}
SHOWN = (960, 688)  # pixels, across and down
SAID = "the train leaves at half past seven"
WOMAN, MAN = "a young woman with long red hair", "an old man with a white beard"


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """What the server answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


def settled(url: str, name: str) -> dict[str, Any]:
    """A clip once it is made."""
    while True:
        video = ask(f"{url}/v1/videos/{name}")
        if video["status"] == "failed":
            raise SystemExit(f"{name}: {video['error']}")
        if video["status"] == "completed":
            return video
        time.sleep(0.2)


def until(page: Page, expression: str) -> None:
    """Wait for a condition of the page, a minute at most."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise SystemExit(f"after a minute not: {expression}")


def create(page: Page, url: str) -> None:
    """Words on the lane, one of them moved; two seeds being made."""
    page.fill("textarea[name=speech]", SAID)
    page.fill("[name=prompt]", WOMAN)
    page.fill("input[name=seeds]", "5 6")
    until(page, "document.querySelectorAll('.lane [role=slider]').length === 7")
    page.locator(".lane [role=slider]").last.focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    page.click("button.main")
    until(page, "!!document.querySelector('img[alt*=becoming]')")


def queue(page: Page, url: str) -> None:
    """Four clips that wait."""
    ask(f"{url}/v1/videos", {"prompt": f'{MAN} says "{SAID}"', "seed": 11, "n": 4})
    until(page, "document.querySelectorAll('[data-id]').length >= 3")


def watch(page: Page, url: str) -> None:
    """A clip with what was measured of it."""
    until(page, "document.querySelector('main').innerText.includes('ms')")
    if page.locator("text=Show the spectrogram").count():
        page.click("text=Show the spectrogram")
    page.wait_for_timeout(1500)


def compare(page: Page, url: str) -> None:
    """Three clips, all in the middle."""
    until(page, "[...document.querySelectorAll('video')].every(v => v.readyState >= 3)")
    page.evaluate("""() => { const bar = document.querySelector('input[type=range]');
      bar.value = 1.1; bar.dispatchEvent(new Event('input', {bubbles: true})); }""")
    page.wait_for_timeout(700)


def still(page: Page, url: str) -> None:
    """As it is after a moment."""
    page.wait_for_timeout(1500)


def check(page: Page, url: str) -> None:
    """A clip that was taken home, dropped again."""
    newest = ask(f"{url}/v1/videos?limit=1&status=completed")["data"][0]["id"]
    with urllib.request.urlopen(f"{url}/v1/videos/{newest}/content") as answer:
        clip = answer.read()
    file = {"name": "downloaded.mp4", "mimeType": "video/mp4", "buffer": clip}
    page.set_input_files("input[type=file]", file)  # pyright: ignore[reportArgumentType]
    until(page, "/picture/i.test(document.querySelector('main').innerText)")
    page.wait_for_timeout(9000)


def write(picture: bytes, path: Path) -> None:
    """A screenshot at the size of docs/."""
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None, "the browser writes PNG"
    small = cv2.resize(pixels, SHOWN, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), small, [cv2.IMWRITE_WEBP_QUALITY, 85])


SECTIONS: dict[str, Callable[[Page, str], None]] = {
    "create": create,
    "queue": queue,
    "watch": watch,
    "compare": compare,
    "judge": still,
    "history": still,
    "check": check,
    "training": still,
}


def take(url: str, page: Page, out: Path) -> None:
    """Make four clips, and take the pictures."""
    one = ask(f"{url}/v1/videos", {"prompt": f'{WOMAN} says "{SAID}"', "seed": 1, "n": 3})
    ask(f"{url}/v1/videos", {"prompt": f'{MAN} says "my brother plays the violin"', "seed": 2})
    for video in ask(f"{url}/v1/videos?limit=9")["data"]:
        settled(url, video["id"])
    group = ask(f"{url}/v1/videos?group={one['avgen']['group']}")["data"]
    three = [video["id"] for video in group]
    places = {"watch": f"watch/{three[0]}", "compare": f"compare/{','.join(three)}"}
    for name, do in SECTIONS.items():
        page.goto(f"{url}/#{places.get(name, name)}")
        page.wait_for_selector("h1")
        do(page, url)
        suffix = "png" if name == "create" else "webp"  # README.md shows the first
        write(page.screenshot(), out / f"studio_{name}.{suffix}")
        print(name, flush=True)


def main() -> None:
    """Serve, take the pictures, and end the server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--dark", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    scheme = "dark" if args.dark else "light"
    with tempfile.TemporaryDirectory() as data, sync_playwright() as started:
        command = [sys.executable, "-m", "avgen.cli", "serve", "--port", "0", "--data", data]
        command += ["--runs", str(args.runs)] if args.runs else []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert isinstance(server.stdout, io.TextIOBase)
                found = re.search(r"http://[^/\s]+", server.stdout.readline())
                assert found is not None, "the server says where it is"
                flags = ["--no-sandbox"]
                browser = started.chromium.launch(executable_path=CHROMIUM, args=flags)
                page = browser.new_context(viewport=SIZE, color_scheme=scheme).new_page()
                take(found[0], page, args.out)
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
