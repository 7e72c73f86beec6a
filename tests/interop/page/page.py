"""A person at the page: drives a browser through it.

    page.py PICTURES AXE NODE1 NODE2 NODE3 PID3

The nodes are addresses of one cluster, the last of which is killed here. Pictures of the page are
left in a folder. Says `checked`, or fails.
"""

import json
import os
import signal
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import prefix
from playwright.sync_api import expect, sync_playwright

PICTURES, AXE, NODE1, NODE2, _, PID3 = sys.argv[1:]
# The first is below a path, as behind a proxy.
ONE, TWO = prefix.serve(NODE1, "/store"), f"http://{NODE2}"
N_MANY = 100_000
# Longer than a browser may stand still on a machine that does much else.
STALL_MS = 700
LONG = 20_000

# Whatever of these became markup, or ran, would set this.
MARK = "window.hurt = true"
HOSTILE = [
    f"<img src=x onerror='{MARK}'>",
    f"\"><script>{MARK}</script>",
    f"javascript:{MARK}",
    f"'-{MARK}-'",
    "&lt;b&gt;",
    "..",
    ".",
    "a//b",
    "?a=b&c#d",
    "%2F%00%",
    "new\nline\ttab\0nul",
    "\u202egnp.exe",
    "\u200b",
    "\U0001f600\uffff",
    "__proto__",
    "constructor",
    "x" * 512,
    " ",
    "+ +",
    "${1+1}{{1}}",
]


def ask(node, method, path, body=None, **headers):
    request = urllib.request.Request(f"{node}/{path}", body, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def named(key, **fields):
    return "kv?" + urllib.parse.urlencode({"key": key, **fields})


def put(node, key, value, **headers):
    return json.loads(ask(node, "PUT", named(key), value, **headers))


def fill():
    for batch in range(0, N_MANY, 100):
        puts = [{"put": f"many/{n:06}", "value": str(n)} for n in range(batch, batch + 100)]
        ask(ONE, "POST", "kv/", json.dumps({"ops": puts}).encode())


def picture(page, name):
    page.screenshot(path=Path(PICTURES) / f"{name}.png")


class Person:
    """A tab, and what a person does in it."""

    def __init__(self, context, node):
        self.page = context.new_page()
        self.faults = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self.note)
        self.page.goto(f"{node}/")

    def note(self, message):
        # A refusal is told on the console by the browser itself; it is no fault of the page.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def at(self, selector):
        return self.page.locator(selector)

    def row(self, name):
        return self.at(".row").filter(has=self.page.get_by_text(name, exact=True))

    def until(self, what, is_so, *argument):
        """Waits until something is so; the page itself lets nobody wait in it by a text."""
        ends = time.monotonic() + LONG / 1000
        while not self.page.evaluate(is_so, *argument):
            assert time.monotonic() < ends, what
            self.page.wait_for_timeout(20)

    def is_drawn(self, width):
        self.until(f"a picture {width} wide",
                   "width => document.getElementById('image').naturalWidth === width", width)

    def has_saved(self):
        expect(self.at("#editor")).to_be_hidden()
        expect(self.at("#told")).to_have_text("Saved.")

    def check(self):
        assert not self.faults, self.faults
        assert self.page.evaluate("window.hurt") is None


def writes(one, two):
    """What is written at one node's page is seen at another's, and no change is lost."""
    for person in (one, two):
        expect(person.at("#live")).to_have_text("live", timeout=LONG)
    one.page.keyboard.press("n")
    one.at("#key").fill("config/limits")
    one.at("#value").fill('{"burst":10,"big":12345678901234567890,"a":[],"s":"x,{\\"y"}')
    one.at("#type").fill("application/json")
    one.at("#save").click()
    one.has_saved()
    two.row("config/").click(timeout=LONG)
    two.row("limits").click()
    shown = '{\n  "burst": 10,\n  "big": 12345678901234567890,\n  "a": [],\n  "s": "x,{\\"y"\n}'
    expect(two.at("#text")).to_have_text(shown)
    expect(two.at("#facts")).to_contain_text("application/json")
    # An edit is seen where the key is open, without a hand being moved.
    one.at("#edit").click()
    one.at("#value").fill('{"burst":11}')
    one.page.keyboard.press("Control+Enter")
    one.has_saved()
    expect(two.at("#text")).to_have_text('{\n  "burst": 11\n}', timeout=LONG)
    expect(two.at("#told")).to_contain_text("Changed at")
    # Both edit: the second is told, by the stream and by the answer.
    one.at("#edit").click()
    one.at("#value").fill("mine")
    two.at("#edit").click()
    two.at("#value").fill("theirs")
    two.at("#save").click()
    two.has_saved()
    expect(one.at("#conflict")).to_contain_text("Somebody has changed", timeout=LONG)
    one.at("#save").click()
    expect(one.at("#conflict")).to_contain_text("Yours is not saved")
    one.at("#theirs").click()
    expect(one.at("#other")).to_have_text("theirs")
    picture(one.page, "conflict")
    assert ask(ONE, "GET", named("config/limits") + "&raw") == b"theirs"
    one.at("#mine").click()
    one.has_saved()
    assert ask(ONE, "GET", named("config/limits") + "&raw") == b"mine"
    expect(two.at("#text")).to_have_text("mine", timeout=LONG)
    # A delete asks first, and is seen.
    one.at("#delete").click()
    picture(one.page, "delete")
    one.at("#sure-yes").click()
    expect(two.at("#told")).to_contain_text("Deleted at", timeout=LONG)
    expect(one.row("limits")).to_have_count(0)


def hurries(one):
    """Who is faster than the page loses nothing of what comes next."""
    put(ONE, "hurry/a", b"a")
    one.page.evaluate("location.hash = 'in=hurry/&key=hurry/a'")
    expect(one.at("#text")).to_have_text("a", timeout=LONG)
    # Back, and a new key: all before the browser tells that it is elsewhere.
    one.page.evaluate(
        """() => new Promise(done => {
            addEventListener("hashchange", () => setTimeout(done), { once: true });
            for (const key of ["Escape", "n"])
                document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        })"""
    )
    expect(one.at("#key")).to_be_visible()
    one.page.keyboard.press("Escape")
    # A new key is begun while a delete is on its way.
    one.row("a").click()
    expect(one.at("#text")).to_have_text("a", timeout=LONG)
    held, method = [], "DELETE"

    def hold(route):
        if route.request.method == method:
            held.append(route)
        else:
            route.continue_()

    one.page.route("**/kv?*", hold)
    one.at("#delete").click()
    with one.page.expect_request(lambda request: request.method == "DELETE"):
        one.at("#sure-yes").click()
    one.at("#new").click()
    one.at("#key").fill("hurry/b")
    one.at("#value").fill("begun meanwhile")
    with one.page.expect_response(lambda answer: answer.request.method == "DELETE"):
        held.pop().continue_()
    expect(one.row("a")).to_have_count(0, timeout=LONG)
    expect(one.at("#sure")).to_be_hidden()
    # And another one while that is being saved.
    method = "PUT"
    with one.page.expect_request(lambda request: request.method == "PUT"):
        one.at("#save").click()
    one.page.keyboard.press("Escape")
    one.at("#sure-yes").click()
    expect(one.at("#editor")).to_be_hidden()
    one.at("#new").click()
    one.at("#key").fill("hurry/c")
    with one.page.expect_response(lambda answer: answer.request.method == "PUT"):
        held.pop().continue_()
    expect(one.row("b")).to_have_count(1, timeout=LONG)
    expect(one.at("#key")).to_have_value("hurry/c")
    one.page.unroute("**/kv?*")
    one.at("#save").click()
    one.has_saved()
    assert ask(ONE, "GET", named("hurry/b") + "&raw") == b"begun meanwhile"


def expires(one):
    """A key with a time to live says so, and its end is seen."""
    one.page.keyboard.press("Escape")
    one.page.keyboard.press("n")
    one.at("#key").fill("short")
    one.at("#ttl").fill("nonsense")
    one.at("#save").click()
    expect(one.at("#conflict")).to_contain_text("ttl")
    one.at("#ttl").fill("4s")
    one.at("#save").click()
    expect(one.at("#facts")).to_contain_text("expires")
    expect(one.at("#told")).to_contain_text("Expired at", timeout=LONG)


def shows(one):
    """Bytes as pictures, as text and as hex."""
    dot = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763"
        "f8cfc0f01f0005000100a9f1349e0000000049454e44ae426082"
    )
    put(ONE, "forms/dot", dot, **{"Content-Type": "image/png"})
    drawn = b"<svg xmlns='http://www.w3.org/2000/svg' width='240' height='90'>" \
        b"<rect width='240' height='90' rx='12' fill='teal'/><script>%s</script></svg>"
    put(ONE, "forms/drawn", drawn % MARK.encode(), **{"Content-Type": "image/svg+xml"})
    put(ONE, "forms/html", f"<script>{MARK}</script>".encode(), **{"Content-Type": "text/html"})
    put(ONE, "forms/bytes", bytes(range(256)) * 300)
    put(ONE, "forms/long", b"0123456789abcdef" * 400_000)
    one.page.evaluate("location.hash = 'in=forms/&key=forms/dot'")
    one.is_drawn(1)
    one.row("drawn").click()
    one.is_drawn(240)
    picture(one.page, "image")
    one.row("html").click()
    expect(one.at("#text")).to_have_text(f"<script>{MARK}</script>")
    one.row("bytes").click()
    expect(one.at("#text")).to_contain_text("00000010  10 11 12 13 14 15 16 17  18 19")
    expect(one.at("#cut")).to_contain_text("32 KiB of 75 KiB")
    picture(one.page, "hex")
    one.row("long").click()
    expect(one.at("#cut")).to_contain_text("of 6.1 MiB")
    with one.page.expect_download() as download:
        one.at("#download").click()
    assert Path(download.value.path()).stat().st_size == 6_400_000
    # Bytes that are no text keep being what they are when their type is changed.
    one.row("bytes").click()
    one.at("#edit").click()
    one.at("#type").fill("application/x-mine")
    one.at("#save").click()
    expect(one.at("#facts")).to_contain_text("application/x-mine")
    assert ask(ONE, "GET", named("forms/bytes") + "&raw") == bytes(range(256)) * 300


def hostile(one):
    """Nothing that is a name, a value or a type is ever more than a text."""
    for n, key in enumerate(HOSTILE):
        put(ONE, key, key.encode(), **{"Content-Type": "text/html" if n % 2 else "text/plain"})
        put(ONE, f"odd/{key}"[:512], b"1")
    for key in HOSTILE:
        fields = urllib.parse.urlencode({"key": key})
        one.page.evaluate("hash => { location.hash = hash }", fields)
        one.until(key, "key => document.getElementById('text').textContent === key", key)
        one.at("#edit").click()
        one.at("#cancel").click()
    one.page.evaluate("location.hash = ''")
    expect(one.row("\\u{202e}gnp.exe")).to_have_count(1)
    expect(one.row("\\u{200b}")).to_have_count(1)
    one.check()
    picture(one.page, "hostile")
    # One of each kind is deleted by hand.
    for key in ("..", HOSTILE[0], "\u202egnp.exe"):
        one.page.evaluate("hash => { location.hash = hash }", urllib.parse.urlencode({"key": key}))
        expect(one.at("#text")).to_have_text(key)
        one.page.keyboard.press("Delete")
        one.at("#sure-yes").click()
        expect(one.at("#sure")).to_be_hidden()
        expect(one.at("#shown")).to_be_hidden()
    left = json.loads(ask(ONE, "GET", "kv/?keys&limit=1000&delimiter=/"))["items"]
    assert not {"..", HOSTILE[0], "\u202egnp.exe"} & {item["key"] for item in left}


def many(one):
    """100,000 keys in one folder, from its beginning to its end, and a search among them."""
    one.page.evaluate("location.hash = 'in=many/'")
    expect(one.row("000000")).to_have_count(1)
    one.page.evaluate("""() => {
      window.worst = 0;
      let last = performance.now();
      const tick = now => {
        window.worst = Math.max(window.worst, now - last);
        last = now;
        requestAnimationFrame(tick);
      };
      requestAnimationFrame(tick);
    }""")
    began, box = time.monotonic(), one.at("#rows")
    while not one.row(f"{N_MANY - 1:06}").count():
        box.evaluate("box => { box.scrollTop = box.scrollHeight }")
        assert time.monotonic() - began < 60, one.at("#count").text_content()
        one.page.wait_for_timeout(20)
    scrolled = time.monotonic() - began
    expect(one.at("#count")).to_have_text(f"{N_MANY:,} entries")
    assert one.at(".row").count() < 200
    # Back and forth among all of them, by keys and by scrolling, while others write.
    box.focus()
    for n in range(30):
        put(TWO, f"many/{n * 3000:06}-new", b"x")
        box.evaluate(f"box => {{ box.scrollTop = {n * 110000} }}")
        one.page.keyboard.press("PageUp")
        one.page.wait_for_timeout(20)
    one.page.keyboard.press("Home")
    expect(one.row("000000-new")).to_have_count(1)
    one.at("#search").fill("77777")
    expect(one.at("#count")).to_contain_text("1 found", timeout=60_000)
    expect(one.row("077777")).to_have_count(1)
    picture(one.page, "many")
    worst = one.page.evaluate("window.worst")
    assert worst < STALL_MS, f"the page stood still for {worst} ms"
    one.at("#search").fill("")
    return f"{N_MANY} rows in {scrolled:.1f} s, longest picture {worst:.0f} ms"


def dies(one):
    """A member that is killed turns dead, and the store is told against its limit."""
    one.at("#to-cluster").click()
    expect(one.at("#alive")).to_have_text("3 of 3")
    expect(one.at("#store")).to_contain_text("iB")
    expect(one.at("#limit")).to_contain_text("% of")
    expect(one.at("#members tr").nth(1).locator("td").nth(3)).to_contain_text("none", timeout=LONG)
    os.kill(int(PID3), signal.SIGKILL)
    expect(one.at("#members .dead")).to_have_text("dead", timeout=40_000)
    expect(one.at("#alive")).to_have_text("2 of 3")
    picture(one.page, "cluster")


def is_accessible(browser, node):
    """axe-core finds nothing that is serious, in both schemes, wide and narrow."""
    source = Path(AXE).read_text()
    for scheme, width in (("light", 1280), ("dark", 390)):
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True)
        person = Person(context, node)
        expect(person.at("#live")).to_have_text("live", timeout=LONG)
        for name in ("", "in=forms/&key=forms/html", "key=none", "edit", "cluster", "api"):
            if name == "edit":
                person.page.evaluate("location.hash = 'in=forms/&key=forms/html'")
                person.at("#edit").click()
            else:
                person.page.evaluate("hash => { location.hash = hash }", name)
            person.page.wait_for_timeout(250)
            person.page.evaluate(source)
            found = person.page.evaluate("() => axe.run()")["violations"]
            serious = [(fault["id"], [node["html"] for node in fault["nodes"]])
                       for fault in found if fault["impact"] in ("serious", "critical")]
            assert not serious, (scheme, name, serious)
            picture(person.page, f"{scheme}-{name.split('&')[0].replace('/', '') or 'keys'}")
            # Nothing sticks out at the side.
            width_of = person.page.evaluate("document.documentElement.scrollWidth")
            assert width_of <= width, (name, width_of)
        person.check()
        context.close()


def timed(act):
    began = time.monotonic()
    act()
    print(f"{time.monotonic() - began:.1f} s", file=sys.stderr)


def main():
    Path(PICTURES).mkdir(parents=True, exist_ok=True)
    fill()
    said = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
            args=["--no-sandbox", "--disable-dev-shm-usage"])
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        one, two = Person(context, ONE), Person(context, TWO)
        for act in (lambda: writes(one, two), lambda: expires(one), lambda: hurries(one)):
            timed(act)
        two.check()
        # A tab that nobody looks at draws once a second.
        two.page.close()
        for act in (lambda: shows(one), lambda: hostile(one), lambda: said.append(many(one)),
                    lambda: is_accessible(browser, ONE), lambda: dies(one)):
            timed(act)
        one.check()
        browser.close()
    print("checked:", *said)


main()
