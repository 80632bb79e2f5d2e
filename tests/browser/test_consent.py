"""Consent on the page: a box that nobody has ticked, for every clip."""

import pytest
from playwright.sync_api import expect

from pipeline.texts import TEXTS
from tests.browser.test_page import STATUS, WAIT_MS, give, make

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("language", "tongue"), [("en-CA", "en"), ("fr-CA", "fr")])
def test_the_button_refuses_without_consent_and_each_clip_needs_its_own(
    open_page, server, keep, portrait_path, short_voice, language, tongue
):
    page = open_page(language)
    give(page, portrait_path, short_voice)
    box = page.locator("#consent input")
    expect(box).not_to_be_checked()
    expect(page.locator("#consent")).to_contain_text(getattr(TEXTS["PageConsent"], tongue))
    for button in ("#make", "#try-variants"):
        page.click(button)
        expect(page.locator("#consent .validation-error")).to_contain_text(getattr(TEXTS["PageConsentMissing"], tongue))
    keep(page, f"consent_missing_{tongue}_desktop")
    assert not server.work_folders()
    make(page)
    expect(page.locator(STATUS)).to_have_text(getattr(TEXTS["PageDone"], tongue), timeout=WAIT_MS)
    expect(box).not_to_be_checked()


@pytest.mark.parametrize(("language", "tongue"), [("en-CA", "en"), ("fr-CA", "fr")])
def test_the_terms_can_be_read(open_page, keep, language, tongue):
    page = open_page(language)
    page.get_by_text(getattr(TEXTS["PageTermsLabel"], tongue), exact=True).first.click()
    expect(page.locator("#terms")).to_contain_text("consent-1")
    keep(page, f"terms_{tongue}_desktop")
