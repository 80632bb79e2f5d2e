"""The page in a real browser: what a visitor does, sees and hears."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from pipeline import hardware
from pipeline.texts import TEXTS, say
from tests.browser.conftest import DESKTOP, PHONE, WAIT_MS
from tests.conftest import EXAMPLES, SHORT_SECONDS, tone, write_wav
from tests.server import FOLDERS_EACH, wait_until

pytestmark = pytest.mark.browser

STATUS = "#status [role=status]"
VIDEO = "document.querySelector('#clip video')"
ROWS = list(csv.DictReader((EXAMPLES / "examples.csv").open(encoding="utf-8", newline="")))
LANGUAGE_NAMES = {"en": "English", "fr": "Français"}  # as the page lists them
SIZES = {"desktop": DESKTOP, "phone": PHONE}


def give_picture(page: Page, portrait: Path) -> None:
    """Upload a picture and wait until the page has it."""
    page.locator("#portrait input[type=file]").first.set_input_files(portrait)
    page.locator("#portrait img[src*='/file=']").wait_for()


def give(page: Page, portrait: Path, voice: Path) -> None:
    """Upload a picture and a recording and wait until the page has them."""
    give_picture(page, portrait)
    page.locator("#source input[value=recording]").check()
    page.locator("#speech input[type=file]").first.set_input_files(voice)
    page.locator("#speech").get_by_text(re.compile(r"^\d+:\d\d$")).first.wait_for()


def make(page: Page, button: str = "#make") -> None:
    """Give consent and press the button."""
    page.locator("#consent input").check()
    page.click(button)


def plays(page: Page) -> dict:
    """Wait until the clip plays, and say how."""
    page.wait_for_function(f"() => {VIDEO} && {VIDEO}.readyState >= 2 && {VIDEO}.currentTime > 0", timeout=WAIT_MS)
    return page.evaluate(
        f"() => {{ const v = {VIDEO}; return {{seconds: v.duration, width: v.videoWidth, paused: v.paused,"
        " muted: v.muted, volume: v.volume, error: v.error, sound: v.webkitAudioDecodedByteCount} }"
    )


@pytest.fixture(scope="module")
def long_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Longer than it takes to press Cancel. Every other second is quiet, or it would be cleaned of noise."""
    waveform = tone(30.0)
    waveform[np.arange(len(waveform)) // 16_000 % 2 == 1] = 0
    return write_wav(tmp_path_factory.mktemp("long") / "long.wav", waveform, 16_000)


@pytest.mark.parametrize(("language", "size"), [("en-CA", "desktop"), ("fr-CA", "phone")])
def test_a_picture_and_a_voice_become_a_clip_that_plays_with_sound(
    open_page, server, keep, portrait_path, short_voice, tmp_path, language, size
):
    tongue = language[:2]
    page = open_page(language, size=SIZES[size])
    give(page, portrait_path, short_voice)
    keep(page, f"ready_{tongue}_{size}")
    make(page)
    page.locator("#details progress").wait_for()
    keep(page, f"rendering_{tongue}_{size}")
    clip = plays(page)
    expect(page.locator(STATUS)).to_have_text(getattr(TEXTS["PageDone"], tongue))
    assert clip["seconds"] == pytest.approx(SHORT_SECONDS, abs=0.1)
    assert clip["width"] == 512
    assert clip["sound"] > 0
    assert not (clip["muted"] or clip["paused"] or clip["error"])
    assert clip["volume"] == 1
    expect(page.locator("#details")).to_contain_text("draft")
    expect(page.locator("#details")).to_contain_text("512×512")
    keep(page, f"done_{tongue}_{size}")
    with page.expect_download() as download:
        page.locator("#clip a[download]").click()
    kept = tmp_path / download.value.suggested_filename
    download.value.save_as(kept)
    assert kept.suffix == ".mp4"
    with av.open(str(kept)) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
        assert container.streams.video[0].frames == round(SHORT_SECONDS * 25)
    assert server.has_cleared()


@pytest.mark.parametrize(("language", "tongue"), [("en-GB", "en"), ("fr-CA", "fr"), ("fr-FR", "fr"), ("de-DE", "en")])
def test_the_page_speaks_the_browsers_language(open_page, keep, language, tongue):
    """A third language gets English."""
    page = open_page(language)
    for key in ("PageIntroduction", "PageMake", "PageSynthetic", "PagePictureLabel", "PageScriptLabel", "PageIdle"):
        expect(page.get_by_text(getattr(TEXTS[key], tongue), exact=True).first).to_be_visible()
    assert page.locator("html").get_attribute("lang") == tongue
    make(page)
    expect(page.locator("#portrait .validation-error")).to_contain_text(getattr(TEXTS["PagePictureMissing"], tongue))
    expect(page.locator("#script div.validation-error")).to_contain_text(getattr(TEXTS["PageScriptMissing"], tongue))
    page.locator("#source input[value=recording]").check()
    expect(page.get_by_text(getattr(TEXTS["PageVoiceLabel"], tongue), exact=True).first).to_be_visible()
    make(page)
    expect(page.locator("#speech .validation-error")).to_contain_text(getattr(TEXTS["PageVoiceMissing"], tongue))
    keep(page, f"missing_{language}_desktop")


def test_the_other_engine_is_shown_with_what_it_still_needs(open_page, portrait_path, short_voice, keep):
    """Its packages where they are missing, else the licence of its weights, which nobody has accepted here."""
    page = open_page("fr-CA")
    give(page, portrait_path, short_voice)
    page.locator("#engine input[value=avatar]").check()
    has_packages = all(status.available for status in hardware.engines())
    expect(page.locator("#licence")).to_be_visible(visible=has_packages)
    make(page)
    needed = "n'a pas été acceptée" if has_packages else "« avatar » ne peut pas fonctionner ici"
    expect(page.locator(STATUS)).to_contain_text(needed, timeout=WAIT_MS)
    expect(page.locator("#resume")).to_be_hidden()
    keep(page, "avatar_unavailable_fr_desktop")


@pytest.mark.parametrize(("language", "size"), [("en-CA", "phone"), ("fr-CA", "desktop")])
def test_a_picture_without_a_face_is_refused_in_words(
    open_page, server, keep, faceless_path, short_voice, language, size
):
    page = open_page(language, size=SIZES[size])
    give(page, faceless_path, short_voice)
    make(page)
    title = getattr(TEXTS["PageNotMade"], language[:2])
    expect(page.locator(STATUS)).to_contain_text(title)
    expect(page.locator(STATUS)).to_contain_text("landscape.png (480×320)")
    expect(page.locator("#cancel")).to_be_disabled()
    keep(page, f"refused_{language[:2]}_{size}")
    assert server.has_cleared()


def test_cancel_stops_the_work_and_leaves_nothing(open_page, server, keep, portrait_path, short_voice, long_voice):
    page = open_page()
    give(page, portrait_path, long_voice)
    expect(page.locator("#cancel")).to_be_disabled()
    make(page)
    page.locator(STATUS).get_by_text(TEXTS["StageDrawing"].en).wait_for()
    assert len(server.work_folders()) == FOLDERS_EACH
    page.click("#cancel")
    expect(page.locator(STATUS)).to_have_text(TEXTS["PageCancelled"].en)
    expect(page.locator("#details progress")).to_have_count(0)
    expect(page.locator("#cancel")).to_be_disabled()
    assert server.has_cleared()
    keep(page, "cancelled_en_desktop")
    page.reload()
    give(page, portrait_path, short_voice)
    make(page)
    assert plays(page)["seconds"] == pytest.approx(SHORT_SECONDS, abs=0.1)


def test_a_second_click_starts_no_second_render(open_page, server, portrait_path, long_voice):
    page = open_page()
    give(page, portrait_path, long_voice)
    make(page)
    assert wait_until(lambda: len(server.work_folders()) == FOLDERS_EACH, 30)
    make(page)
    page.wait_for_timeout(1500)  # as long as a render needs to make its folder, several times over
    assert len(server.work_folders()) == FOLDERS_EACH
    page.click("#cancel")
    assert server.has_cleared()


def test_leaving_in_mid_render_frees_the_slot(open_page, server, keep, portrait_path, short_voice, long_voice):
    """Both places are taken, by a visitor who reloads and one who closes the page; a third then gets one."""
    reloading, closing, waiting = open_page(), open_page(), open_page("fr-CA")
    for page in (reloading, closing):
        give(page, portrait_path, long_voice)
        make(page)
    assert wait_until(lambda: len(server.work_folders()) == 2 * FOLDERS_EACH, 60)
    give(waiting, portrait_path, short_voice)
    make(waiting)
    expect(waiting.locator(STATUS)).to_contain_text(say("StageInLine", "fr", done=1))
    keep(waiting, "waiting_fr_desktop")
    reloading.reload()
    closing.close()
    assert plays(waiting)["seconds"] == pytest.approx(SHORT_SECONDS, abs=0.1)
    assert server.has_cleared()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: Path(row["portrait"]).stem)
def test_an_example_shows_its_clip_at_one_click(open_page, keep, row):
    tongue, size = ("fr", PHONE) if row["language"] == "fr" else ("en", DESKTOP)
    page = open_page(f"{tongue}-CA", size=size)
    page.get_by_role("button", name=row[f"title_{tongue}"]).click()
    clip = plays(page)
    with av.open(str(EXAMPLES / row["clip"])) as container:
        assert clip["seconds"] == pytest.approx((container.duration or 0) / av.time_base, abs=0.1)
    expect(page.locator("#clip")).to_be_in_viewport()
    expect(page.locator(STATUS)).to_have_text(getattr(TEXTS["PageExampleShown"], tongue))
    page.locator("#portrait img[src*='/file=']").wait_for()
    page.locator("#advanced button").first.click()
    expect(page.locator("#points textarea")).to_have_value(row["points"])
    expect(page.locator("#text textarea")).to_have_value(row["text"])
    expect(page.locator("#language input")).to_have_value(LANGUAGE_NAMES[row["language"]])
    keep(page, f"example_{Path(row['portrait']).stem}_{tongue}")


def test_an_example_can_be_made_again(open_page):
    page = open_page()
    page.get_by_role("button", name=ROWS[-1]["title_en"]).click()
    plays(page)
    make(page)
    expect(page.locator(STATUS)).to_have_text(TEXTS["PageDone"].en, timeout=WAIT_MS)
    assert plays(page)["seconds"] > 1


def test_a_phone_needs_no_sideways_scroll(open_page, keep, two_faces_path, short_voice):
    """Not when it opens, nor with everything opened, clicked and made, which must be accessible as well."""
    page = open_page("fr-CA", size=PHONE)
    keep(page, "start_fr_phone")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    make_with_everything_open(page, two_faces_path, short_voice)
    keep(page, "everything_fr_phone")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert not serious(page)


def make_with_everything_open(page: Page, portrait: Path, voice: Path) -> None:
    """A clip with captions and its report, of a picture with two faces, and every accordion open."""
    for name in ("direction", "format", "advanced"):
        page.locator(f"#{name} button").first.click()
    expect(page.locator("#points")).to_be_visible()
    give(page, portrait, voice)
    page.locator("#outlines img").wait_for()
    page.locator("#second button").first.click()
    expect(page.locator("#second-speech")).to_be_visible()
    page.locator("#text textarea").fill("Hello there.")
    page.locator("#captions input[value=file]").check()
    make(page)
    plays(page)
    page.locator("#measured table").wait_for()


def test_a_webcam_and_a_microphone_will_do(open_page, keep):
    """The browser's pretended camera shows no face; that the refusal names a picture shows that it arrived."""
    page = open_page()
    page.context.grant_permissions(["camera", "microphone"])
    page.locator("#portrait").get_by_label("Capture from camera").click()
    page.locator("#portrait").get_by_text("Click to Access Webcam").click()
    page.wait_for_function("() => document.querySelector('#portrait video')?.videoWidth > 0")
    page.locator("#portrait").get_by_label("capture photo").click()
    page.locator("#portrait img[src*='/file=']").wait_for()
    page.locator("#source input[value=recording]").check()
    page.locator("#speech").get_by_label("Record audio").click()
    page.locator("#speech .record-button").click()
    page.wait_for_timeout(1500)  # of recording
    page.locator("#speech .stop-button").click()
    page.locator("#speech").get_by_text(re.compile(r"^0:0[1-3]$")).first.wait_for()
    make(page)
    expect(page.locator(STATUS)).to_contain_text("No face found")
    keep(page, "webcam_en_desktop")


TRANSITIONS = "document.getAnimations().filter(one => one instanceof CSSTransition)"
GRADIOS_OWN = 'aria-label="Empty value"'  # gr.Video's empty state, which may bear no label; any page with one has it


def test_no_serious_accessibility_finding_is_ours(open_page, keep, two_faces_path, short_voice):
    """Nor, once it is as narrow as a telephone, anything to be scrolled sideways."""
    page = open_page(scheme="light")
    found = serious_in_both_schemes(page, lambda scheme: keep(page, f"start_en_desktop_{scheme}"))
    make_with_everything_open(page, two_faces_path, short_voice)
    found |= serious_in_both_schemes(page, lambda scheme: keep(page, f"everything_en_desktop_{scheme}"))
    assert not found
    page.set_viewport_size(PHONE)
    keep(page, "everything_en_phone")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def serious_in_both_schemes(page: Page, keep: Callable[[str], Path]) -> set[tuple[str, str]]:
    """As `serious`, of the page in light and dark; it is light again afterwards."""
    found = serious(page)
    keep("light")
    page.emulate_media(color_scheme="dark")
    expect(page.locator("body")).to_have_class(re.compile(r"\bdark\b"))
    settle(page)
    found |= serious(page)
    keep("dark")
    page.emulate_media(color_scheme="light")
    expect(page.locator("body")).not_to_have_class(re.compile(r"\bdark\b"))
    settle(page)
    return found


def settle(page: Page) -> None:
    """Wait for the colours of a scheme: half way, they are neither's."""
    page.evaluate(f"Promise.allSettled({TRANSITIONS}.map(one => one.finished))")


def serious(page: Page) -> set[tuple[str, str]]:
    """Rule and element of every serious or critical finding that is not GRADIOS_OWN."""
    findings = Axe().run(page).response["violations"]
    return {
        (finding["id"], " ".join(node["target"]))
        for finding in findings
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
        if GRADIOS_OWN not in node["html"]
    }
