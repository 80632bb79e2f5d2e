"""Who speaks, and where a face is that nobody finds: clicks in the picture, in a real browser."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from pipeline.texts import TEXTS
from tests.browser.conftest import PHONE, WAIT_MS
from tests.browser.test_page import STATUS, give, give_picture, make, plays
from tests.conftest import EXAMPLES

pytestmark = pytest.mark.browser

TEAPOT = EXAMPLES / "portraits" / "drawing_of_a_teapot.jpg"  # 768×768
TEAPOT_POINTS = ((314, 387), (453, 387), (384, 490))
TEAPOT_SIZE = 768
OFFICER, WOMAN = (0.25, 0.4), (0.75, 0.3)  # in two_faces_path, of its width and height
OUTLINES = "#outlines img"
# Where a place of the picture is on the page: it is fitted into its box.
PLACE = """([x, y]) => {
  const image = document.querySelector('#outlines img'), box = image.getBoundingClientRect();
  const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
  return {x: box.width / 2 + (x - 0.5) * image.naturalWidth * scale,
          y: box.height / 2 + (y - 0.5) * image.naturalHeight * scale}
}"""

IS_DRAWN = "() => document.querySelector('#outlines img')?.naturalWidth > 0"


def click_at(page: Page, x: float, y: float) -> None:
    """Click in the outlined picture, at parts of its width and height, and wait until it is drawn anew."""
    image = page.locator(OUTLINES)
    image.wait_for()
    page.wait_for_function(IS_DRAWN)
    before = image.get_attribute("src")
    image.click(position=page.evaluate(PLACE, [x, y]))
    expect(image).not_to_have_attribute("src", before or "", timeout=WAIT_MS)
    page.wait_for_function(IS_DRAWN)


def drawn(page: Page) -> np.ndarray:
    """(rows, columns, 3) float: the outlined picture as the page shows it."""
    source = page.evaluate(f"() => document.querySelector('{OUTLINES}').src")
    return np.array(Image.open(io.BytesIO(page.request.get(source).body())).convert("RGB")).astype(float)


def show_advanced(page: Page) -> None:
    """Open what the fields of faces and points are in."""
    page.locator("#advanced button").first.click()
    expect(page.locator("#points")).to_be_visible()


def value(page: Page, field: str) -> str:
    """What a field of the page holds."""
    return page.locator(f"#{field} :is(input, textarea)").input_value()


def test_of_two_faces_a_click_chooses_who_speaks(open_page, server, keep, two_faces_path, short_voice):
    page = open_page("fr-CA", size=PHONE)
    give(page, two_faces_path, short_voice)
    expect(page.locator("#faces-hint")).to_have_text(TEXTS["PageFacesSeveral"].fr)
    page.locator(OUTLINES).wait_for()
    show_advanced(page)
    found = drawn(page)
    with Image.open(two_faces_path) as picture:
        plain = np.array(picture.resize(found.shape[1::-1])).astype(float)
    assert np.abs(found - plain).max() > 100  # lines and numbers
    assert value(page, "face") == ""
    click_at(page, *OFFICER)
    expect(page.locator("#face :is(input, textarea)")).to_have_value("1")  # the larger one
    change = np.abs(drawn(page) - found).max(axis=(0, 2)) > 100
    assert change[: change.size // 2].any() and not change[change.size // 2 :].any()
    click_at(page, *WOMAN)
    expect(page.locator("#face :is(input, textarea)")).to_have_value("2")
    assert value(page, "second-face") == ""
    keep(page, "face_chosen_fr_phone")
    make(page)
    plays(page)
    frame = page.evaluate(
        """() => { const video = document.querySelector('#clip video'), canvas = document.createElement('canvas');
        canvas.width = canvas.height = 64; const context = canvas.getContext('2d');
        context.drawImage(video, 0, 0, 64, 64); return [...context.getImageData(0, 0, 64, 64).data] }"""
    )
    shown = np.array(frame, float).reshape(64, 64, 4)[..., :3]
    halves = {
        who: np.array(Image.open(two_faces_path).crop(box).resize((64, 64)), float)
        for who, box in {"officer": (0, 0, 600, 600), "woman": (600, 0, 1200, 600)}.items()
    }
    distance = {who: np.abs(np.median(half, (0, 1)) - np.median(shown, (0, 1))).sum() for who, half in halves.items()}
    assert distance["woman"] < distance["officer"]
    assert server.has_cleared()


def test_with_two_speakers_the_second_click_is_the_second_ones(open_page, server, keep, two_faces_path):
    page = open_page("en-CA")
    give_picture(page, two_faces_path)
    page.locator("#script textarea").fill("A: Are you there?\nB: I am.")
    page.locator(OUTLINES).wait_for()
    show_advanced(page)
    click_at(page, *WOMAN)
    expect(page.locator("#face :is(input, textarea)")).to_have_value("2")
    click_at(page, *OFFICER)
    expect(page.locator("#second-face :is(input, textarea)")).to_have_value("1")
    assert value(page, "face") == "2"
    keep(page, "two_speakers_en_desktop")
    page.locator("#format button").first.click()
    page.locator("#framing input[value='16:9']").check()
    page.locator("#captions input[value=file]").check()
    make(page)
    clip = plays(page)
    assert clip["width"] > 850  # 16:9 of 512
    page.wait_for_function("() => document.querySelector('#clip video').textTracks[0]?.cues?.length === 2")
    expect(page.locator("#measured")).to_have_text(TEXTS["PageReportTwo"].en)
    keep(page, "two_speakers_done_en_desktop")
    assert server.has_cleared()


def test_a_thing_gets_a_face_by_three_clicks_that_the_browser_remembers(open_page, server, keep, short_voice):
    page = open_page("fr-CA")
    give(page, TEAPOT, short_voice)
    hint, back = page.locator("#faces-hint"), page.locator("#take-back")
    points = page.locator("#points :is(input, textarea)")
    show_advanced(page)
    expect(hint).to_have_text(TEXTS["PagePlaceFirstEye"].fr)
    expect(back).to_be_hidden()
    first, second, mouth = (((x + 0.5) / TEAPOT_SIZE, (y + 0.5) / TEAPOT_SIZE) for x, y in TEAPOT_POINTS)
    click_at(page, *first)
    expect(hint).to_have_text(TEXTS["PagePlaceOtherEye"].fr)
    click_at(page, *mouth)  # by mistake
    expect(hint).to_have_text(TEXTS["PagePlaceMouth"].fr)
    back.click()
    expect(hint).to_have_text(TEXTS["PagePlaceOtherEye"].fr)
    click_at(page, *second)
    expect(hint).to_have_text(TEXTS["PagePlaceMouth"].fr)
    expect(points).to_have_value("")
    unfinished = drawn(page)
    click_at(page, *mouth)
    expect(hint).to_have_text(TEXTS["PagePlaceDone"].fr)
    expect(points).to_have_value(re.compile(r"^(\d+,\d+ ?){3}$"))
    placed = [[int(number) for number in pair.split(",")] for pair in points.input_value().split()]
    assert np.abs(np.array(placed) - TEAPOT_POINTS).max() <= 3  # a pixel of the page is two of the picture's
    assert (np.abs(drawn(page) - unfinished).max(axis=2) > 100).sum() > 500  # the face that will move
    keep(page, "teapot_placed_fr_desktop")

    page.reload()
    page.locator("#status [role=status]").wait_for()
    give(page, TEAPOT, short_voice)
    expect(hint).to_have_text(TEXTS["PagePlaceDone"].fr)
    show_advanced(page)
    expect(points).to_have_value(" ".join(f"{x},{y}" for x, y in placed))
    make(page)
    plays(page)
    expect(page.locator(STATUS)).to_have_text(TEXTS["PageDone"].fr)
    keep(page, "teapot_done_fr_desktop")

    other = open_page("fr-CA")
    give_picture(other, TEAPOT)
    expect(other.locator("#faces-hint")).to_have_text(TEXTS["PagePlaceFirstEye"].fr)  # another's browser knows nothing
    assert server.has_cleared()


def test_what_is_chosen_goes_with_the_picture(open_page, two_faces_path, portrait_path):
    page = open_page("en-CA")
    give_picture(page, TEAPOT)
    for x, y in TEAPOT_POINTS:
        click_at(page, x / TEAPOT_SIZE, y / TEAPOT_SIZE)
    show_advanced(page)
    expect(page.locator("#points :is(input, textarea)")).to_have_value(re.compile(r"\d"))
    page.locator("#portrait").get_by_label("Remove").click()
    expect(page.locator("#faces")).to_be_hidden()
    expect(page.locator("#points :is(input, textarea)")).to_have_value("")
    give_picture(page, two_faces_path)
    click_at(page, *WOMAN)
    expect(page.locator("#face :is(input, textarea)")).to_have_value("2")
    page.locator("#portrait").get_by_label("Remove").click()
    give_picture(page, portrait_path)
    expect(page.locator("#face :is(input, textarea)")).to_have_value("")
    expect(page.locator("#faces")).to_be_hidden()
