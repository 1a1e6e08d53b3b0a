"""A page from disk in Debian's Chromium, as a reader opens it; whatever it complains about fails the test."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

_CHROMIUM = shutil.which("chromium")
_PATIENCE_MS = 180_000  # the machine may be busy; a page takes two seconds on one that is not
_QUIET = ("no-first-run", "disable-background-networking", "disable-component-update", "disable-sync")

needs_chromium = pytest.mark.skipif(
    _CHROMIUM is None, reason="Chromium is not installed here: apt-get install chromium"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser: the system's, never a downloaded one."""
    arguments = ["--no-sandbox", "--disable-gpu", *(f"--{name}" for name in _QUIET)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=arguments)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, path: Path, **context: Any) -> Iterator[Page]:
    """Open a file; nothing may be written to the console, thrown, asked of the network, or popped up."""
    complaints: list[str] = []
    with browser.new_context(**context) as session:
        session.set_default_timeout(_PATIENCE_MS)
        page = session.new_page()
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: complaints.append(request.url) if request.url[:4] == "http" else None)
        page.goto(path.as_uri())
        yield page
    assert not complaints, "\n".join(complaints)


def faults(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['help']} {[node['target'] for node in each['nodes']]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def becomes(page: Page, condition: str) -> bool:
    """Wait until a condition holds; playwright's own wait_for_function needs eval, which the page forbids."""
    for _ in range(_PATIENCE_MS // 50):
        if page.evaluate(condition):
            return True
        page.wait_for_timeout(50)
    return False


def visible_lines(page: Page, table: str) -> list[str]:
    """Return the first entry of each line of a table that is shown."""
    rows = page.locator(f"#{table}-table tbody tr:not([hidden]) > :first-child")
    return [text.strip() for text in rows.all_inner_texts()]
