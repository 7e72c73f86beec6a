"""The page at a node that wants a token, and at one that is not ready.

    shut.py GUARDED TOKEN STARTING

Says `checked`, or fails.
"""

import os
import sys

from playwright.sync_api import expect, sync_playwright

GUARDED, TOKEN, STARTING = sys.argv[1:]
LONG = 20_000


def wants_token(page):
    page.goto(f"http://{GUARDED}/")
    expect(page.locator("#login")).to_be_visible(timeout=LONG)
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#login-why")).to_contain_text("does not know that token", timeout=LONG)
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#live")).to_have_text("live", timeout=LONG)
    expect(page.locator("#count")).to_have_text("There are no keys yet.")
    page.keyboard.press("n")
    page.fill("#key", "a")
    page.fill("#value", "b")
    page.click("#save")
    expect(page.locator("#told")).to_have_text("Saved.")
    # It is in the memory of the tab, and nowhere else.
    assert TOKEN not in page.content()
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    page.reload()
    expect(page.locator("#login")).to_be_visible(timeout=LONG)


def is_not_ready(page):
    page.goto(f"http://{STARTING}/")
    expect(page.locator("#health")).to_have_text("starting", timeout=LONG)
    expect(page.locator("#why")).to_contain_text("This node is not ready: ")
    expect(page.locator("#count")).to_contain_text("may lack what others hold", timeout=LONG)
    page.click("#to-cluster")
    expect(page.locator("#because")).not_to_be_empty()


def main():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
            args=["--no-sandbox", "--disable-dev-shm-usage"])
        page, faults = browser.new_page(), []
        page.on("pageerror", lambda error: faults.append(str(error)))
        wants_token(page)
        is_not_ready(page)
        assert not faults, faults
        browser.close()
    print("checked")


main()
