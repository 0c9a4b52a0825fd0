"""The page, in Debian's Chromium: what a person does in it, by mouse and keys, light and dark."""

import json
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

playwright = pytest.importorskip("playwright.sync_api")

SECTIONS = ("create", "queue", "watch", "compare", "judge", "history", "check", "training")
BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser")
AXE = Path(__file__).with_name("axe.min.js")
STATIC = Path(__file__).parents[2] / "avgen" / "studio" / "static"


@pytest.fixture(scope="module")  # while it lives, no test beside it may run an event loop
def browser():
    """Chromium, headless."""
    found = next((place for place in BROWSERS if Path(place).exists()), None)
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        yield started.chromium.launch(executable_path=found, args=flags)


@pytest.fixture(scope="module")
def made(served):
    """Three finished clips of one sentence."""
    served.call("/v1/videos", {"prompt": 'a man says "place red"', "seed": 1, "n": 3, "seconds": 1})
    videos = served.call("/v1/videos?limit=3")["data"]
    return [served.wait(video["id"])["id"] for video in videos]


class Seen:
    """A page with all that it asked for and complained of."""

    def __init__(self, context, served):
        self.context, self.url = context, served.url
        self.page = context.new_page()
        self.requests, self.complaints, self.bytes = [], [], 0
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda m: m.type == "error" and self.complaints.append(m.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def go(self, section):
        self.page.goto(f"{self.url}/#{section}")
        self.page.wait_for_selector("h1")
        return self.page


@pytest.fixture
def seen(browser, served):
    """A page of its own storage."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    yield Seen(context, served)
    context.close()


def until(page, expression, seconds=30):
    """Wait for a condition. (Playwright's own waiting evaluates text in the page, which the page's
    policy forbids.)"""
    for _ in range(20 * seconds):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"after {seconds} s not: {expression}")


def words_of(page):
    """What the lane says: [[word, start, end], ...] in ms, by text and by ARIA."""
    told = page.locator(".lane [role=slider]").evaluate_all(
        "all => all.map(w => [w.getAttribute('aria-label'), w.getAttribute('aria-valuetext')])"
    )
    found = []
    for text, value in told:
        start, end = re.fullmatch(r"([\d.]+) to ([\d.]+) seconds", value).groups()
        found.append([text, round(1000 * float(start)), round(1000 * float(end))])
    return found


def wait_for_words(page, number=2):
    until(page, f"document.querySelectorAll('.lane [role=slider]').length === {number}")


def say(page, text):
    page.fill("textarea[name=speech]", text)
    wait_for_words(page, len(text.split()))


def test_nothing_comes_from_elsewhere_and_nothing_is_complained_of(seen, made):
    page = seen.go("create")
    say(page, "place red")
    for section in SECTIONS:
        page.click(f"nav a[href='#{section}']")
        page.wait_for_timeout(150)
    page.wait_for_load_state("load")
    hosts = {urlsplit(url).netloc for url in seen.requests if not url.startswith("blob:")}
    assert hosts == {urlsplit(seen.url).netloc}
    assert seen.complaints == []
    assert sum(p.stat().st_size for p in STATIC.rglob("*") if p.suffix in (".js", ".css")) < 250_000


def test_what_is_vendored_is_what_it_says():
    import hashlib

    told = (STATIC / "vendor" / "VENDOR.md").read_text()
    for path in (STATIC / "vendor").glob("*.js"):
        assert path.name in told
        assert hashlib.sha256(path.read_bytes()).hexdigest() in told
    for licence in ("htm.LICENSE", "preact.LICENSE"):
        assert licence in told
        assert (STATIC / "vendor" / licence).is_file()


def drag(page, word, by, grip=0.5):
    box = page.locator(".lane [role=slider]").nth(word).bounding_box()
    x, y = box["x"] + box["width"] * grip, box["y"] + 20
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by / 2, y, steps=3)
    page.mouse.move(x + by, y, steps=3)
    page.mouse.up()
    return box


def test_words_are_moved_by_mouse_and_keys_and_asked_for_as_they_stand(seen, served):
    page = seen.go("create")
    say(page, "place red")
    before = words_of(page)
    length = float(page.get_attribute(".lane [role=slider]", "aria-valuemax"))
    width = page.locator(".lane").bounding_box()["width"]
    drag(page, 1, 0.05 * width)
    moved = words_of(page)
    assert moved[0] == before[0]
    room = length - before[1][2]
    expected = min(0.05 * length, room)
    assert moved[1][1] - before[1][1] == pytest.approx(expected, abs=length / width + 1)
    assert moved[1][2] - moved[1][1] == before[1][2] - before[1][1]
    page.locator(".lane [role=slider]").nth(0).focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Alt+ArrowLeft")
    page.keyboard.press("Shift+ArrowRight")
    keyed = words_of(page)
    assert keyed[0] == ["place", moved[0][1] - 11, moved[0][2] - 11 + 10]
    text = page.inner_text("output.times")
    assert text == " ".join(f"{w} {a / 1000:.3f}-{b / 1000:.3f}" for w, a, b in keyed)
    page.reload()
    wait_for_words(page)
    assert words_of(page) == keyed  # the draft stays
    served.call("/v1/queue", {"paused": True})
    try:
        with page.expect_request(
            lambda r: r.method == "POST" and r.url.endswith("/v1/videos")
        ) as sent:
            page.click("button.main")
        asked = sent.value.post_data_json["words"]
        assert [[w, round(a * 1000), round(b * 1000)] for w, a, b in asked] == keyed
        page.wait_for_selector(".card progress")
        page.click("text=Cancel")
        page.wait_for_selector(".card progress", state="detached")
    finally:
        served.call("/v1/queue", {"paused": False})


def test_undo_leads_back_to_the_start(seen):
    page = seen.go("create")
    say(page, "place red")
    before = words_of(page)
    for _ in range(3):
        page.locator(".lane [role=slider]").nth(1).focus()
        page.keyboard.press("ArrowRight")
    after = words_of(page)
    assert after[1][1] == before[1][1] + 30
    for _ in range(3):
        page.keyboard.press("Control+z")
    assert words_of(page) == before
    for _ in range(3):
        page.keyboard.press("Control+Shift+z")
    assert words_of(page) == after


def test_a_finger_moves_a_word(browser, served):
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    page = Seen(context, served).go("create")
    say(page, "place red")
    before = words_of(page)
    word = page.locator(".lane [role=slider]").nth(1)
    word.scroll_into_view_if_needed()
    box = word.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 20
    touch = context.new_cdp_session(page)
    points = lambda at: [{"x": at, "y": y}]  # noqa: E731
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points(x)})
    for by in (4, 8, 12):
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": points(x + by)})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert words_of(page)[1][1] > before[1][1]
    context.close()


def test_no_gesture_makes_words_overlap(seen):
    """500 gestures, drawn, by the page's own functions: order, distance and length hold."""
    page = seen.go("create")
    faults = page.evaluate("""async () => {
      const t = await import('/static/timeline.js');
      let state = 12345;
      const draw = (n) => (state = (state * 1103515245 + 12345) % 2147483648) % n;
      let words = t.fromSeconds([['a', .1, .3], ['b', .3, .5], ['c', .8, 1.2], ['d', 1.9, 2.4]]);
      const length = 2600, faults = [];
      for (let i = 0; i < 500; i++) {
        const at = draw(4), by = draw(4001) - 2000, before = JSON.stringify(words);
        const kind = draw(4);
        if (kind === 0) words = t.move(words, at, by, length);
        if (kind === 1) words = t.moveStart(words, at, by, length);
        if (kind === 2) words = t.moveEnd(words, at, by, length);
        if (kind === 3 && t.touching(words, at)) words = t.roll(words, at, by);
        const good = words.every((w, k) => w.text === 'abcd'[k] && Number.isInteger(w.start)
          && w.end - w.start >= t.SHORTEST && w.end <= length
          && w.start >= (k ? words[k - 1].end : 0));
        if (!good) faults.push([before, kind, at, by, JSON.stringify(words)]);
      }
      return faults;
    }""")
    assert faults == []


def test_what_is_queued_is_there_when_the_browser_comes_back(browser, served):
    context = browser.new_context()
    page = Seen(context, served).go("create")
    say(page, "place red")
    page.fill("input[name=seeds]", "21-23")
    page.click("button.main")
    until(page, "document.querySelector('[role=status]').innerText.includes('queued')")
    context.close()
    names = [v["id"] for v in served.call("/v1/videos?limit=3")["data"]]
    assert sorted(served.wait(name)["avgen"]["seed"] for name in names) == [21, 22, 23]
    context = browser.new_context()
    page = Seen(context, served).go("history")
    for name in names:
        page.wait_for_selector(f"a[href='#watch/{name}']")
    context.close()


def test_progress_does_not_fall_on_a_reload(seen, served):
    name = served.make(num_inference_steps=400, seed=31)
    while served.call(f"/v1/videos/{name}")["status"] == "queued":  # the worker may still load
        time.sleep(0.05)
    waiting = [served.make(num_inference_steps=1, seed=seed) for seed in (34, 32, 33)]
    served.call(f"/v1/videos/{waiting[2]}/mark", {"first": True})
    page = seen.go("queue")
    shown = "[...document.querySelectorAll('[data-id]')].map(job => job.dataset.id)"
    order = [name, waiting[2], waiting[0], waiting[1]]
    until(
        page,
        f"JSON.stringify({shown}.slice(0, 4)) === '{json.dumps(order, separators=(',', ':'))}'",
    )
    bar = f"[data-id={name}] progress"
    until(page, f"document.querySelector('{bar}')?.value > 3")
    before = page.locator(bar).evaluate("bar => bar.value")
    page.reload()
    page.wait_for_selector(bar)
    assert page.locator(bar).evaluate("bar => bar.value") >= before
    assert page.evaluate(shown)[:4] == order
    page.click(f"[data-id={name}] >> text=Cancel")
    assert served.wait(name)["error"]["code"] == "cancelled"
    for other in waiting:
        served.wait(other)


def test_clips_play_in_step_and_one_is_heard(seen, made):
    page = seen.go(f"compare/{','.join(made)}")
    until(
        page,
        "document.querySelectorAll('video').length === 3 &&"
        " [...document.querySelectorAll('video')].every(v => v.readyState >= 3)",
    )
    page.click("text=Play all")
    watch = """() => new Promise(done => {
      const all = [...document.querySelectorAll('video')], seen = [];
      const began = performance.now();
      const look = () => {
        const times = all.map(v => v.currentTime);
        if (performance.now() - began > 400) seen.push(Math.max(...times) - Math.min(...times));
        performance.now() - began < 1800 ? setTimeout(look, 30) : done(seen.sort((a, b) => a - b));
      };
      look();
    })"""
    apart = page.evaluate(watch)  # over a loop: the clips last a second
    assert apart[len(apart) // 2] <= 0.04
    page.focus("input[type=range]")
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("PageUp")  # a seek while they play, three of them, one upon another
    apart = page.evaluate(watch)
    assert apart[len(apart) // 2] <= 0.04
    page.click("text=Pause")
    page.evaluate("""() => { const bar = document.querySelector('input[type=range]');
      bar.value = 0.4; bar.dispatchEvent(new Event('input', {bubbles: true})); }""")
    until(page, "[...document.querySelectorAll('video')].every(v => !v.seeking && v.paused)")
    assert page.eval_on_selector_all("video", "a => a.map(v => v.currentTime)") == [0.4] * 3
    page.evaluate("document.activeElement.blur()")
    for key in "231":
        page.keyboard.press(key)
        muted = page.eval_on_selector_all("video", "all => all.map(v => v.muted)")
        assert muted == [str(index + 1) != key for index in range(3)]


def test_judging_hides_what_is_judged_and_waits_until_both_were_played(seen, made, served):
    page = seen.go("judge")
    page.wait_for_selector("video")
    shown = page.content() + " ".join(page.eval_on_selector_all("video", "a => a.map(v => v.src)"))
    for name in made:
        assert name not in shown
    assert "seed" not in page.inner_text("main").lower()
    assert page.is_disabled("text=Left is better")
    page.keyboard.press("ArrowLeft")
    before = len(served.call("/v1/judgements")["data"])
    page.evaluate("document.querySelectorAll('video').forEach(v => { v.muted = true; v.play(); })")
    until(page, "!document.querySelector('.main').disabled")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("text=So far")
    found = served.call("/v1/judgements")
    assert len(found["data"]) == before + 1
    assert found["data"][-1]["verdict"] == "right"
    assert found["data"][-1]["preferred"] != found["data"][-1]["left"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, served, made, scheme):
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": 1200, "height": 900}, bypass_csp=True
    )
    seen = Seen(context, served)
    seen.go("create").evaluate(AXE.read_text())
    for section in SECTIONS:
        page = seen.go(f"watch/{made[0]}" if section == "watch" else section)
        page.wait_for_timeout(250)
        found = page.evaluate(
            "async () => (await axe.run()).violations.map(v => [v.id, v.nodes.map(n => n.html)])"
        )
        assert found == [], section
    context.close()


def test_a_phone_needs_no_sideways_scroll(browser, served, made):
    context = browser.new_context(viewport={"width": 390, "height": 800})
    seen = Seen(context, served)
    for section in (*SECTIONS, f"watch/{made[0]}", f"compare/{','.join(made)}"):
        page = seen.go(section)
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, section
    context.close()


def test_at_twice_the_size_nothing_is_beside_the_window(browser, served, made):
    """A window of 1200 pixels, zoomed to 200 %: 600 of the page's, each two of the screen's."""
    size = {"viewport": {"width": 600, "height": 450}, "device_scale_factor": 2}
    context = browser.new_context(**size)
    seen = Seen(context, served)
    for section in (*SECTIONS, f"watch/{made[0]}", f"compare/{','.join(made)}"):
        page = seen.go(section)
        page.wait_for_timeout(200)
        assert page.evaluate("devicePixelRatio") == 2
        assert page.evaluate("document.documentElement.scrollWidth") <= 600, section
    context.close()


def test_who_wants_no_motion_gets_none(browser, served):
    moving = """[...document.querySelectorAll('*')].filter(part => {
      const style = getComputedStyle(part);
      return style.animationName !== 'none' || parseFloat(style.transitionDuration) > 0;
    }).length"""
    for wish, is_still in (("no-preference", False), ("reduce", True)):
        context = browser.new_context(reduced_motion=wish)
        page = Seen(context, served).go("create")
        say(page, "place red")
        assert (page.evaluate(moving) == 0) == is_still
        context.close()


def test_by_the_keyboard_alone(seen, served):
    """Create, cancel, create, watch, check: without a mouse, the focus always to be seen."""
    page = seen.go("create")
    say(page, "place red")

    def tab_to(selector, most=80):
        for _ in range(most):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.matches(`{selector}`)"):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline not in ("none", ""), selector
                return
        raise AssertionError(f"Tab does not reach {selector}")

    served.call("/v1/queue", {"paused": True})
    tab_to("button.main")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card progress")
    tab_to(".card button")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card progress", state="detached")
    served.call("/v1/queue", {"paused": False})
    page.evaluate("document.querySelector('h1').focus()")
    tab_to("button.main")
    with page.expect_response(
        lambda r: r.request.method == "POST" and "/v1/videos" in r.url
    ) as got:
        page.keyboard.press("Enter")
    name = got.value.json()["id"]
    page.wait_for_selector(f"a[href='#watch/{name}']", timeout=60000)
    tab_to(f"a[href='#watch/{name}']")
    page.keyboard.press("Enter")
    page.wait_for_selector("video")
    tab_to("video")
    page.keyboard.press("Space")
    until(page, "document.querySelector('video').currentTime > 0")
    page.evaluate("document.querySelector('header a').focus()")
    tab_to("nav a[href='#check']")
    page.keyboard.press("Enter")
    page.wait_for_selector("input[type=file]")
    page.set_input_files("input[type=file]", str(served.folder / "clips" / f"{name}.mp4"))
    page.wait_for_selector("text=mark in the picture", timeout=30000)
