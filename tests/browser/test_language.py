"""The switch between English and French: the page's words, and the server's, both ways, for good."""

import pytest
from playwright.sync_api import Page, expect

from pipeline.texts import TEXTS
from tests.browser.test_page import STATUS, give, give_picture, make

pytestmark = pytest.mark.browser

SHOWN = ("PageIntroduction", "PageMake", "PageSynthetic", "PagePictureLabel", "PageScriptLabel", "PageIdle")


def speaks(page: Page, tongue: str) -> None:
    """Hold that the page stands in one language, and its parts in no other."""
    other = "en" if tongue == "fr" else "fr"
    for key in SHOWN:
        expect(page.get_by_text(getattr(TEXTS[key], tongue), exact=True).first).to_be_visible()
        if TEXTS[key].en != TEXTS[key].fr:
            expect(page.get_by_text(getattr(TEXTS[key], other), exact=True)).to_have_count(0)
    expect(page.locator("#switch")).to_have_text(getattr(TEXTS["PageOtherLanguage"], tongue))
    assert page.locator("html").get_attribute("lang") == tongue


def switch(page: Page) -> None:
    """Press the switch and wait for the page to be built anew."""
    with page.expect_navigation():
        page.click("#switch")
    page.locator("#status [role=status]").wait_for()


@pytest.mark.parametrize(("language", "first", "second"), [("en-CA", "en", "fr"), ("fr-CA", "fr", "en")])
def test_the_switch_changes_the_page_and_the_servers_words_for_good(
    open_page, server, keep, faceless_path, portrait_path, short_voice, language, first, second
):
    page = open_page(language)
    speaks(page, first)
    switch(page)
    speaks(page, second)
    page.reload()
    page.locator("#status [role=status]").wait_for()
    speaks(page, second)
    make(page)
    problem = getattr(TEXTS["PagePictureMissing"], second)  # the server's word
    expect(page.locator("#portrait .validation-error")).to_contain_text(problem)
    give_picture(page, faceless_path)
    expect(page.locator("#faces-hint")).to_contain_text(getattr(TEXTS["PagePlaceFirstEye"], second))
    give(page, faceless_path, short_voice)
    make(page)
    expect(page.locator(STATUS)).to_contain_text(getattr(TEXTS["PageNotMade"], second))
    refusal = {"en": "No face found in landscape.png", "fr": "Aucun visage trouvé dans landscape.png"}[second]
    expect(page.locator(STATUS)).to_contain_text(refusal)
    keep(page, f"switched_to_{second}_desktop")
    switch(page)
    speaks(page, first)
    page.click("#listen")
    expect(page.locator(STATUS)).to_contain_text(getattr(TEXTS["PageScriptMissing"], first))


def test_one_visitors_switch_is_not_anothers(open_page):
    one, other = open_page("en-CA"), open_page("en-CA")
    switch(one)
    other.reload()
    other.locator("#status [role=status]").wait_for()
    speaks(one, "fr")
    speaks(other, "en")
