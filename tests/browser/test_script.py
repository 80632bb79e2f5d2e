"""Typed words in a real browser: they are heard, become a clip with captions and a report, and three to choose from."""

import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from pipeline.texts import TEXTS, say
from tests.browser.conftest import PHONE, WAIT_MS
from tests.browser.test_page import SIZES, STATUS, VIDEO, give, give_picture, make, plays
from tests.conftest import first_sound

pytestmark = pytest.mark.browser

LINES = {
    "en": ["Hello! My name is Grace.", "I am only a picture."],
    "fr": ["Bonjour, je m'appelle Grace.", "Je ne suis qu'une image."],
}
# the player's own element is not on the page: what plays is noted here
NOTE_WHAT_PLAYS = """() => {
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () { window.heard = this; return play.call(this) }
}"""
TRACKS = f"""() => [...{VIDEO}.textTracks].map(track => (
  {{mode: track.mode, cues: [...track.cues ?? []].map(cue => [cue.text, cue.startTime, cue.endTime])}}
))"""


def listen(page: Page) -> float:
    """Press Listen, wait until the sound plays, and say how many seconds it lasts."""
    page.evaluate(NOTE_WHAT_PLAYS)
    page.click("#listen")
    page.wait_for_function("() => window.heard?.currentTime > 0.1 && window.heard.duration > 0", timeout=WAIT_MS)
    heard = page.evaluate(
        "() => ({seconds: heard.duration, muted: heard.muted, volume: heard.volume, sound:"
        " heard.webkitAudioDecodedByteCount})"
    )
    assert heard["sound"] > 0 and heard["volume"] > 0 and not heard["muted"]
    return heard["seconds"]


def downloaded(page: Page, link: str, folder: Path) -> Path:
    """What a link hands out."""
    with page.expect_download() as download:
        page.locator(link).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


@pytest.mark.parametrize(("language", "size"), [("en-CA", "desktop"), ("fr-CA", "phone")])
def test_a_typed_line_is_heard_and_becomes_a_clip_with_captions_and_a_report(
    open_page, server, keep, portrait_path, tmp_path, language, size
):
    tongue = language[:2]
    page, lines = open_page(language, size=SIZES[size]), LINES[tongue]
    give_picture(page, portrait_path)
    page.locator("#script textarea").fill(" ".join(lines))
    seconds = listen(page)
    expect(page.locator(STATUS)).to_have_text(getattr(TEXTS["PageListenReady"], tongue))  # and no word of a robot
    assert 2 < seconds < 8
    keep(page, f"heard_{tongue}_{size}")

    page.locator("#format button").first.click()
    page.locator("#captions input[value=file]").check()
    make(page)
    clip = plays(page)
    expect(page.locator(STATUS)).to_have_text(getattr(TEXTS["PageDone"], tongue))
    assert clip["seconds"] == pytest.approx(seconds, abs=0.1)  # what was listened to is what the clip says
    assert clip["sound"] > 0 and not (clip["muted"] or clip["error"])

    page.wait_for_function(f"() => {VIDEO}.textTracks[0]?.cues?.length > 0", timeout=WAIT_MS)
    [track] = page.evaluate(TRACKS)
    assert track["mode"] == "showing"
    assert [cue[0].replace("\n", " ") for cue in track["cues"]] == lines
    times = [time for cue in track["cues"] for time in cue[1:]]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= clip["seconds"]
    page.locator("#captions-on input").uncheck()
    assert page.evaluate(TRACKS)[0]["mode"] != "showing"
    page.locator("#captions-on input").check()
    assert page.evaluate(TRACKS)[0]["mode"] == "showing"
    for ending, first in ((".srt", "1\n"), (".vtt", "WEBVTT")):
        written = downloaded(page, f"#caption-files a[download$='{ending}']", tmp_path).read_text("utf-8")
        assert written.startswith(first) and all(line in written.replace("\n", " ") for line in lines)

    page.locator("#chart img").wait_for()
    assert page.evaluate("() => document.querySelector('#chart img').naturalWidth") > 0
    expect(page.locator("#chart img")).to_have_attribute("alt", getattr(TEXTS["PageReportPlot"], tongue))
    expect(page.locator("#measured table")).to_contain_text(getattr(TEXTS["ReportSync"], tongue))
    expect(page.locator("#report")).to_contain_text(getattr(TEXTS["PageReportLabel"], tongue))
    report = json.loads(downloaded(page, "#report-file a[download$='.json']", tmp_path).read_text("utf-8"))
    assert report["is_good"] and report["num_frames"] == round(clip["seconds"] * 25)
    keep(page, f"typed_done_{tongue}_{size}")

    path = downloaded(page, "#clip a[download]", tmp_path)
    samples, rate, _ = first_sound(path)
    assert np.abs(samples).max() > 0.05 and samples.shape[1] / rate == pytest.approx(seconds, abs=0.1)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == round(clip["seconds"] * 25)
    assert server.has_cleared()


def test_a_french_line_is_read_by_a_french_voice_on_an_english_page(open_page, portrait_path):
    """The language is the text's, not the page's; a voice that cannot read it says so."""
    page = open_page("en-CA")
    page.locator("#script textarea").fill(" ".join(LINES["fr"]))
    listen(page)
    expect(page.locator(STATUS)).to_have_text(TEXTS["PageListenReady"].en)
    page.locator("#language input").click()
    with page.expect_response(re.compile("/queue/data|/call|/run")):
        page.get_by_role("option", name="English").click()
    page.wait_for_timeout(500)  # until the list is changed, which an open one is not
    page.locator("#voice input").click()
    expect(page.get_by_role("option", name=re.compile("· fr$"))).to_have_count(0)
    page.get_by_role("option", name=re.compile("· en$")).first.click()
    page.locator("#language input").click()
    page.get_by_role("option", name=TEXTS["PageDetected"].en).click()
    expect(page.locator("#voice input")).to_have_value(TEXTS["PageSpeakerFirst"].en)


@pytest.mark.parametrize("language", ["en-CA", "fr-CA"])
def test_listening_to_nothing_and_drawing_nothing_are_refused_in_words(open_page, keep, portrait_path, language):
    tongue = language[:2]
    page = open_page(language, size=PHONE)
    page.click("#listen")
    expect(page.locator(STATUS)).to_contain_text(getattr(TEXTS["PageNotSpoken"], tongue))
    expect(page.locator(STATUS)).to_contain_text(getattr(TEXTS["PageScriptMissing"], tongue))
    page.locator("#script textarea").fill(LINES[tongue][0])
    for button in ("#make", "#try-variants"):
        page.click(button)
        problem = page.locator("#portrait .validation-error")
        expect(problem).to_contain_text(getattr(TEXTS["PagePictureMissing"], tongue))
        expect(problem).to_be_in_viewport()  # where the button is, on a phone, it is far above
    give_picture(page, portrait_path)
    page.locator("#script textarea").fill("… ?!")
    make(page)
    expect(page.locator(STATUS)).to_contain_text(getattr(TEXTS["PageNotMade"], tongue), timeout=WAIT_MS)
    expect(page.locator(STATUS)).to_contain_text(say("ScriptEmpty", tongue, length=4))
    expect(page.locator("#cancel")).to_be_disabled()
    keep(page, f"nothing_said_{tongue}_phone")


def test_three_variants_are_shown_and_the_one_chosen_sets_the_seed(open_page, server, keep, portrait_path, short_voice):
    page = open_page("fr-CA")
    give(page, portrait_path, short_voice)
    make(page, "#try-variants")
    expect(page.locator(STATUS)).to_contain_text(say("PageVariant", "fr", number=2), timeout=WAIT_MS)
    expect(page.locator(STATUS)).to_have_text(TEXTS["PageVariantsReady"].fr, timeout=WAIT_MS)
    videos = "[...document.querySelectorAll('#variants video')]"
    page.wait_for_function(f"() => {videos}.filter(video => video.readyState >= 2).length === 3")
    sources = page.evaluate(f"() => {videos}.map(video => video.src)")
    contents = {page.request.get(source).body() for source in sources}
    assert len(contents) == 3  # other movements each
    expect(page.locator("#cancel")).to_be_disabled()
    keep(page, "variants_fr_desktop")
    page.locator("#variants button", has_text=TEXTS["PageVariantUse"].fr).nth(1).click()
    page.locator("#advanced button").first.click()
    expect(page.locator("#seed input, #seed textarea")).to_have_value(re.compile(r"^\d+$"))
    seed = page.locator("#seed input, #seed textarea").input_value()
    expect(page.locator(STATUS)).to_have_text(say("PageVariantChosen", "fr", seed=int(seed)))
    make(page)
    plays(page)
    expect(page.locator("#details")).to_contain_text(f"Germe : {seed}")
    assert server.has_cleared()


def test_cancel_ends_the_variants_that_are_not_there_yet(open_page, server, portrait_path, short_voice):
    page = open_page("en-CA")
    give(page, portrait_path, short_voice)
    make(page, "#try-variants")
    expect(page.locator(STATUS)).to_contain_text(say("PageVariant", "en", number=2), timeout=WAIT_MS)
    page.click("#cancel")
    expect(page.locator(STATUS)).to_have_text(TEXTS["PageCancelled"].en)
    expect(page.locator("#details progress")).to_have_count(0)
    expect(page.locator("#cancel")).to_be_disabled()
    assert server.has_cleared()
    assert page.evaluate("() => document.querySelectorAll('#variants video').length") == 1
    make(page, "#try-variants")
    expect(page.locator(STATUS)).to_contain_text(say("PageVariant", "en", number=1), timeout=WAIT_MS)
    page.click("#cancel")
    expect(page.locator(STATUS)).to_have_text(TEXTS["PageCancelled"].en)
    assert server.has_cleared()
