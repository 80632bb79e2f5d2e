"""The page where no natural French voice is and none can be had: a robotic one reads, and it is told."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from pipeline.texts import TEXTS
from pipeline.voice import espeak, files
from tests.browser.conftest import WAIT_MS
from tests.browser.test_page import STATUS
from tests.browser.test_script import LINES, listen
from tests.server import Server, serve

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A page that finds empty packages in place of those with the voice, and may not ask the Hub."""
    folder = tmp_path_factory.mktemp("offline")
    for name in files.WHEELS:
        (folder / "packages" / name).mkdir(parents=True)
        (folder / "packages" / name / "__init__.py").touch()
    with serve(folder, PYTHONPATH=str(folder / "packages"), HF_HUB_OFFLINE="1", PORTRAIT_VOICES="") as running:
        yield running


@pytest.mark.skipif(not espeak.program(), reason="eSpeak NG is not installed")
@pytest.mark.parametrize(("language", "told"), [("en-CA", "robotic"), ("fr-CA", "robotisée")])
def test_a_robotic_voice_reads_french_and_says_so(open_page, keep, language, told):
    page = open_page(language)
    page.locator("#script textarea").fill(" ".join(LINES["fr"]))
    assert listen(page) > 2
    expect(page.locator(STATUS)).to_contain_text(getattr(TEXTS["PageListenReady"], language[:2]), timeout=WAIT_MS)
    expect(page.locator(STATUS)).to_contain_text(told)
    keep(page, f"robotic_{language[:2]}_desktop")


def test_english_needs_nothing_from_outside(open_page):
    page = open_page("en-CA")
    page.locator("#script textarea").fill(" ".join(LINES["en"]))
    assert listen(page) > 2
    expect(page.locator(STATUS)).to_have_text(TEXTS["PageListenReady"].en)
