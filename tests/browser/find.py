"""Which browser the tests drive: an installed one, else Playwright's own download. As a program, gets one.

    python -m tests.browser.find

Looks in this order: PORTRAIT_BROWSER; Chrome, Chromium or Edge; Playwright's download. With none of them there, it
downloads Playwright's Chromium, or as root on Debian installs the package `chromium`, or says what to type.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = (
    "chromium-headless-shell",  # draws no window: a quarter less work
    "google-chrome",
    "google-chrome-stable",
    "chromium",
    "chromium-browser",
    "microsoft-edge",
    "microsoft-edge-stable",
)
PLACES = {  # where the installers of macOS and Windows put them
    "Darwin": (
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    ),
    "Windows": (
        r"%ProgramFiles%\Google\Chrome\Application\chrome.exe",
        r"%ProgramFiles(x86)%\Google\Chrome\Application\chrome.exe",
        r"%LocalAppData%\Google\Chrome\Application\chrome.exe",
        r"%ProgramFiles(x86)%\Microsoft\Edge\Application\msedge.exe",
    ),
}
TYPE_THIS = f"No browser for the tests. Type: {Path(sys.executable).name} -m playwright install --with-deps chromium"


def find() -> str | None:
    """The path of a browser of the Chromium family, None when there is none."""
    if named := os.environ.get("PORTRAIT_BROWSER"):
        return named
    for name in NAMES:
        if found := shutil.which(name):
            return found
    for place in PLACES.get(platform.system(), ()):
        if Path(os.path.expandvars(place)).is_file():
            return os.path.expandvars(place)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).is_file() else None


def starts(browser: str) -> bool:
    """Whether the browser runs here: a download may miss libraries of the system."""
    from playwright.sync_api import Error, sync_playwright

    from tests.browser import FLAGS

    with sync_playwright() as playwright:
        try:
            playwright.chromium.launch(executable_path=browser, args=FLAGS).close()
        except Error as error:
            print(f"{browser} does not start: {str(error).splitlines()[0]}")
            return False
    return True


def get() -> str | None:
    """A browser that starts, after installing one when need be."""
    if (browser := find()) and starts(browser):
        return browser
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    if (browser := find()) and starts(browser):
        return browser
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-q"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"], check=False)
    return browser if (browser := find()) and starts(browser) else None


if __name__ == "__main__":
    browser = get()
    print(browser or TYPE_THIS)
    sys.exit(browser is None)
