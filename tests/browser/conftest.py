"""A browser, pages in it, and the pictures taken of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser import FLAGS
from tests.browser.find import TYPE_THIS, find
from tests.server import ROOT, Server

SCREENSHOTS = ROOT / "outputs" / "screenshots"
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
WAIT_MS = 60_000  # for one render on a crowded machine; a quiet one needs a twentieth
expect.set_options(timeout=WAIT_MS)

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """An installed browser, or Playwright's own."""
    path = find()
    assert path, TYPE_THIS
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[OpenPage]:
    """Opens the page as a new visitor; afterwards no visitor may have asked anything of another host."""
    outside: list[str] = []
    contexts = []

    def note(address: str) -> None:
        if not address.startswith((server.url, "data:", "blob:")):
            outside.append(address)

    def open_one(language: str = "en-CA", *, size: dict[str, int] = DESKTOP, scheme: str = "light") -> Page:
        context = browser.new_context(locale=language, viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("request", lambda request: note(request.url))
        page.on("websocket", lambda socket: note(socket.url))
        page.goto(server.url)
        page.locator("#make").wait_for()
        page.locator("#status [role=status]").wait_for()  # the last thing done when the page is built
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not outside


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[Page, str], Path]:
    """Saves a picture of the whole page under outputs/screenshots/, to be looked at."""

    def save(page: Page, name: str) -> Path:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        page.screenshot(path=path, full_page=True)
        return path

    return save
