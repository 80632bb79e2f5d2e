"""Captions: what a script may hold comes back as words and nothing else, in time, legible, and never over a mouth."""

import html
import itertools
import re
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import captions, errors, face, media
from pipeline.generators import to_end
from pipeline.plan import FPS, Box, ClipPlan
from pipeline.voice.spoken import Line
from tests.conftest import EXAMPLES, tone

FRENCH = (
    "Bonjour ! Je reviens du dépanneur. Il fait frette dehors, mais le café est encore bien chaud. Veux-tu qu'on jase "
    "un peu avant de souper ?"
)
HOSTILE = [
    "one\n\n2\n00:00:00,000 --> 00:09:00,000\ntwo",
    "one\r\n\r\n00:00.000 --> 09:00.000\r\ntwo",
    "NOTE x --> y",
    "STYLE\n::cue { color: red }",
    "<script>alert(1)</script> <b>bold</b> <v Bob>hi</v> <00:00:05.000>",
    "{\\an8}{\\b1} & &amp; &lt; &#0; WEBVTT",
    "a\u2028\u2028b\x85c\x0bd\x0ce\x1cf\x00g",
    "\ud800 lone, \ufeff mark, \u200b\u200b, \u202eright to left\u202c",
    "e" + "\u0301" * 500,
    "\u00a0 \u00a0" * 30 + "x" + "\u202f" * 90 + "字\u00a0字",
    "x" * 900,
]
anything = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=300), st.text("aé ,.!:-\n<>&字😀", max_size=300))


@st.composite
def scripts(draw: st.DrawFn, text: st.SearchStrategy[str] = anything) -> list[Line]:
    """Lines of up to two speakers, each one's in time, one after another."""
    lines = []
    for speaker in range(draw(st.integers(1, 2))):
        now = 0.0
        for _ in range(draw(st.integers(1, 4))):
            start = now + draw(st.floats(0, 3))
            now = start + draw(st.floats(0.05, 20))
            lines.append(Line(draw(text), start, now, speaker))
    return lines


def words_of(text: str) -> str:
    """What is read of a text, without spaces and signs nobody sees."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "".join(one for one in text if unicodedata.category(one) not in ("Cc", "Cf", "Zs", "Zl", "Zp"))


def milliseconds(written: str) -> int:
    hours, minutes, seconds, thousandths = map(int, re.split("[:.,]", written))
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths


TIMES = re.compile(r"(\d\d+:\d\d:\d\d[.,]\d{3}) --> (\d\d+:\d\d:\d\d[.,]\d{3})")


def cues_of(path: Path) -> list[tuple[int, int, str]]:
    """Start and end in milliseconds and text of every cue of a file, read as a lenient player does: a line that holds
    an arrow is a time, and an empty one ends a cue."""
    cues: list[tuple[int, int, str]] = []
    rows: list[str] | None = None
    for row in [*path.read_text("utf-8").splitlines(), ""]:
        if "-->" in row:
            found = TIMES.fullmatch(row)
            assert found and rows is None, row
            start, end, rows = milliseconds(found[1]), milliseconds(found[2]), []
        elif not row and rows is not None:
            cues.append((start, end, "\n".join(rows)))
            rows = None
        elif rows is not None:
            rows.append(row)
    return cues


# --- cutting ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@example([Line("Mot. " * 2000, 0, 0.05), Line("Fin.", 0.05, 0.1)])
@given(scripts())
def test_cut_lines_have_the_same_words_and_never_overlap(lines):
    cut = captions.cut(lines)
    for speaker in (0, 1):
        mine = [line for line in cut if line.speaker == speaker]
        said = sorted((line for line in lines if line.speaker == speaker), key=lambda line: line.start)
        assert words_of("".join(line.text for line in mine)) == words_of("".join(line.text for line in said))
        assert all(line.start < line.end <= line.start + captions.MAX_SECONDS + 0.001 for line in mine)
        assert all(one.end <= other.start for one, other in itertools.pairwise(mine))
    assert list(cut) == sorted(cut, key=lambda line: line.start)
    shown = captions.one_at_a_time(cut)
    assert all(one.end <= other.start for one, other in itertools.pairwise(shown))


@settings(deadline=None)
@given(scripts(st.text("abcdé ,.;!'-", max_size=400)), st.integers(15, 42))
def test_captions_have_two_rows_of_the_width_at_most(lines, width):
    for line in captions.cut(lines, row_width=width):
        rows = line.text.split("\n")
        assert len(rows) <= 2 and all(0 < len(row) <= width for row in rows)


def test_captions_end_with_sentences_and_clauses_where_they_can():
    cut = captions.cut([Line(FRENCH, 0, 7.3)])
    assert [line.text.split()[-1] for line in cut] == ["dépanneur.", "chaud.", "?"]
    assert cut[1].text.split("\n")[0].endswith("dehors,")


def test_a_title_ends_no_sentence():
    long = "Hier soir, au coin de la rue, nous avons enfin rencontré M. Tremblay et toute sa famille de Montréal."
    assert not any(line.text.endswith("M.") for line in captions.cut([Line(long, 0, 6)]))


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["oui", "non", "jamais !", "ça ?", "ainsi :", "bon ;", "« mots »", "« quoi ! »"]), max_size=60
    )
)
def test_no_row_begins_with_a_mark_that_french_sets_apart(words):
    for line in captions.cut([Line("Alors " + " ".join(words), 0, 30)], row_width=20):
        assert not any(row[0] in ":;!?»" or row[-1] == "«" for row in line.text.split("\n"))


def test_spaces_that_must_not_break_are_kept():
    (line,) = captions.cut([Line("Prêt\u202f? Oui\u00a0: 10\u00a0000 «\u00a0mots\u00a0»", 0, 3)])
    assert line.text == "Prêt\u202f? Oui\u00a0: 10\u00a0000 «\u00a0mots\u00a0»"


def test_what_is_written_from_the_right_and_joined_emoji_stay_whole():
    for text in ("مرحبا بالعالم", "שלום עולם", "👨‍👩‍👧‍👦 🇫🇷 👍🏽 e\u0301"):
        (line,) = captions.cut([Line(text, 0, 3)])
        assert line.text == text
    families = "👨‍👩‍👧‍👦" * 30
    assert all(
        not row.startswith("\u200d") for line in captions.cut([Line(families, 0, 9)]) for row in line.text.split()
    )


def test_a_short_line_stays_a_second_and_a_fast_one_as_long_as_reading_takes():
    cut = captions.cut([Line("Oui.", 0, 0.3), Line("J'y pense depuis ce matin, tu sais.", 3, 3.8), Line("Ah.", 9, 9.2)])
    assert [line.end - line.start >= 1 for line in cut] == [True] * 3
    assert cut[1].end - cut[1].start == pytest.approx(len(cut[1].text) / captions.READING_SPEED, abs=0.01)


def test_lines_too_short_to_be_read_share_a_caption():
    cut = captions.cut([Line("Oui.", 0, 0.4), Line("Non.", 0.5, 0.9), Line("Bon, on verra demain.", 3, 5)])
    assert [line.text for line in cut] == ["Oui. Non.", "Bon, on verra demain."]


def test_the_longest_text_is_cut_at_once():
    started = time.process_time()
    for text in ("字" * 12_000, "a " * 6000, "e" + "\u0301" * 11_999, ("Word. " * 2000)):
        captions.cut([Line(text, 0, 600)])
    assert time.process_time() - started < 15


# --- files ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=scripts())
def test_files_hold_the_words_and_times_and_nothing_the_script_made(tmp_path, lines):
    cut = captions.cut(lines)
    times = [(round(line.start * 1000), round(line.end * 1000)) for line in cut]
    captions.write_srt(lines, tmp_path / "clip.srt")
    captions.write_vtt(lines, tmp_path / "clip.vtt", names=("Ana", "<Bob>\n\n&"))
    srt, vtt = cues_of(tmp_path / "clip.srt"), cues_of(tmp_path / "clip.vtt")
    assert [cue[:2] for cue in srt] == [cue[:2] for cue in vtt] == times
    for line, (_, _, in_srt), (_, _, in_vtt) in zip(cut, srt, vtt, strict=True):
        spoken = re.sub(r"^<v [^<>\n]+>", "", in_vtt)
        assert "<" not in spoken and ">" not in spoken
        assert html.unescape(spoken.replace("&amp;", "&#38;")) in (line.text, "–\u00a0" + line.text)
        assert not re.search(r"[<>{}]", in_srt)
        plain = line.text.translate(str.maketrans("<>{}", "‹›()"))
        assert in_srt in (plain, "–\u00a0" + plain)
    assert (tmp_path / "clip.vtt").read_bytes().startswith(b"WEBVTT\n")


def test_two_speakers_are_told_apart(tmp_path):
    lines = [Line("Bonjour.", 0, 1), Line("Salut.", 2, 3, 1), Line("Ça va ?", 4, 5, 1)]
    captions.write_vtt(lines, tmp_path / "clip.vtt")
    captions.write_srt(lines, tmp_path / "clip.srt")
    assert [text for _, _, text in cues_of(tmp_path / "clip.vtt")] == [
        "<v A>–\u00a0Bonjour.",
        "<v B>–\u00a0Salut.",
        "<v B>Ça va\u00a0?",
    ]
    assert [text[0] == "–" for _, _, text in cues_of(tmp_path / "clip.srt")] == [True, True, False]


def test_both_files_go_beside_the_clip_under_its_name(tmp_path):
    written = captions.write([Line("Bonjour.", 0, 1)], tmp_path / "été 1.5.mp4")
    assert [path.name for path in written] == ["été 1.5.srt", "été 1.5.vtt"]
    assert all(path.is_file() for path in written)


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    for write in (captions.write_srt, captions.write_vtt):
        with pytest.raises(errors.OutputNotWritable):
            write([Line("Bonjour.", 0, 1)], tmp_path / "missing" / "clip.srt")
    assert not list(tmp_path.iterdir())


def test_chapters_are_named_for_what_is_said_and_cover_the_clip():
    lines = [
        Line(f"Phrase numéro {number}, qui dure un certain temps.", 5.0 * number, 5.0 * number + 4)
        for number in range(40)
    ]
    marks = captions.chapters(lines, 200.0)
    assert len(marks) == 3 and marks[0][1] == 0 and marks[-1][2] == 200.0
    assert all(one[2] == other[1] and one[1] + 60 <= one[2] for one, other in itertools.pairwise(marks))
    assert marks[1][0].startswith("Phrase numéro 12") and len(marks[1][0]) <= captions.TITLE_WIDTH + 1
    assert captions.chapters(lines[:5], 25.0) == () == captions.chapters([], 200.0)


# --- when entered words are spoken ------------------------------------------------------------------------------------


def test_sentences_are_found_on_both_sides_of_a_pause():
    pytest.importorskip("hama")
    speech = media.load_speech(EXAMPLES / "voices" / "english_pause_8s.wav")
    text = (
        "My portrait has been hanging on this wall for more than two hundred years. "
        "Nobody ever asked me what I was thinking about."
    )
    lines, notices = to_end(captions.time_words(speech.waveform, text, "en"))
    assert not notices and " ".join(line.text for line in lines) == text and len(lines) == 2
    level = np.convolve(np.square(speech.waveform), np.ones(800) / 800, "same")
    quiet = level < level.max() / 1000
    first, second = lines

    def share_quiet(start: float, end: float) -> float:
        return float(quiet[round(start * 16_000) : round(end * 16_000)].mean())

    assert second.start - first.end > 1 and share_quiet(first.end + 0.1, second.start - 0.1) > 0.9
    assert max(share_quiet(line.start, line.end) for line in lines) < 0.35
    assert share_quiet(0, first.start) > 0.5 and second.end < speech.seconds


@pytest.mark.parametrize("language", ["en", "de"])
def test_words_that_do_not_fit_are_spread_over_the_speech_and_that_is_told(language):
    pause = np.zeros(3 * 16_000)
    waveform = np.concatenate([pause, tone(2.0), pause, tone(2.0)]).astype(np.float32)
    lines, notices = to_end(captions.time_words(waveform, "Eins, zwei, drei. Und vier, fünf, sechs!", language))
    assert [notice.key for notice in notices] == ["CaptionsEstimated"]
    assert words_of("".join(line.text for line in lines)) == "Eins,zwei,drei.Undvier,fünf,sechs!"
    assert lines[0].start == pytest.approx(3, abs=0.1) and lines[-1].end == pytest.approx(10, abs=0.1)


@settings(deadline=None, max_examples=12)
@given(anything, st.sampled_from(["en", "fr", "zz"]))
def test_any_text_is_timed_in_order_within_any_sound(text, language):
    waveform = np.zeros(6_400, np.float32)  # the shortest, and silent
    lines, _ = to_end(captions.time_words(waveform, text, language))
    assert words_of("".join(line.text for line in lines)) == words_of(text) or not words_of(text)
    starts = [line.start for line in lines]
    assert starts == sorted(starts) and all(0 <= line.start <= line.end for line in lines)


# --- drawn into frames ------------------------------------------------------------------------------------------------

LINES = [Line(FRENCH, 0.0, 7.3)]


def plan_of(width: int, height: int) -> ClipPlan:
    return ClipPlan(8 * FPS, FPS, height, width, Box(0, 0, width, height))


def frame_of(plan: ClipPlan, value: int = 128) -> np.ndarray:
    return np.full((plan.height, plan.width, 3), value, np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> Any:
    """(height, width) bool."""
    return (before != after).any(axis=2)


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """Contrast of two colours. Source: WCAG 2.2, contrast ratio and relative luminance."""

    def luminance(colour: np.ndarray) -> float:
        linear = np.where(colour / 255 <= 0.04045, colour / 255 / 12.92, ((colour / 255 + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("background", [0, 128, 255])
@pytest.mark.parametrize("size", [(256, 256), (512, 512), (608, 1080), (1920, 1080)])
def test_letters_stand_out_from_any_background(size, background):
    plan = plan_of(*size)
    drawn = captions.Burner(LINES, plan).draw(frame_of(plan, background), 2 * FPS)
    area = captions.Burner(LINES, plan).area
    assert area is not None
    middle = drawn[int(area.top) : int(area.top + area.height), plan.width // 4 : 3 * plan.width // 4].reshape(-1, 3)
    letters = middle[middle.sum(1).argmax()]
    values, counts = np.unique(middle, axis=0, return_counts=True)
    under = values[counts.argmax()]  # the box
    assert contrast(letters, under) >= 4.5
    assert (middle.min(1) > 200).mean() > 0.05  # and there are letters


def test_letters_grow_with_the_shorter_side():
    heights = [
        np.flatnonzero(changed(frame_of(plan), captions.Burner([Line("H", 0, 2)], plan).draw(frame_of(plan), 0)).any(1))
        for plan in (plan_of(480, 480), plan_of(960, 960), plan_of(480, 853))
    ]
    small, large, tall = (rows[-1] - rows[0] + 1 for rows in heights)
    assert large == pytest.approx(2 * small, rel=0.1) and tall == small


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.builds(Box, st.floats(-100, 500), st.floats(-100, 500), st.floats(10, 300), st.floats(10, 300)), max_size=4
    ),
    st.sampled_from([(512, 512), (288, 512), (640, 360)]),
    st.booleans(),
)
def test_captions_never_touch_what_must_stay_clear(boxes, size, both_speak):
    plan = plan_of(*size)
    lines = [*LINES, Line("Oui, avec plaisir !", 1.0, 6.0, 1)] if both_speak else LINES
    burner = captions.Burner(lines, plan, boxes)
    before = np.random.default_rng(0).integers(0, 256, (plan.height, plan.width, 3), np.uint8)
    touched: Any = np.zeros((plan.height, plan.width), bool)
    for number in range(0, plan.num_frames, 20):
        touched |= changed(before, burner.draw(before.copy(), number))
    assert touched.any() == (burner.area is not None)
    assert ("CaptionsWithoutRoom" in {notice.key for notice in burner.notices}) == (burner.area is None)
    holders = [
        box
        for box in boxes
        for other in boxes
        if box.width * box.height > other.width * other.height
        and 0 <= other.left + other.width / 2 - box.left <= box.width
        and 0 <= other.top + other.height / 2 - box.top <= box.height
    ]
    for box in boxes:
        if box not in holders:  # those may give way
            rows = slice(max(int(box.top), 0), max(int(np.ceil(box.top + box.height)), 0))
            assert not touched[rows, max(int(box.left), 0) : max(int(np.ceil(box.left + box.width)), 0)].any()
    if burner.area is not None:
        area, inside = burner.area, np.zeros_like(touched)
        inside[int(area.top) : int(area.top + area.height), int(area.left) : int(area.left + area.width)] = True
        assert not (touched & ~inside).any()
        assert area.top >= 0.05 * plan.height and area.top + area.height <= 0.95 * plan.height + 1e-6


def test_captions_are_at_the_bottom_and_at_the_top_where_a_mouth_is_low():
    plan = plan_of(512, 512)
    above, low = Box(206, 200, 100, 60), Box(206, 400, 100, 60)
    tops = [area.top for mouths in ([], [above], [low]) if (area := captions.Burner(LINES, plan, mouths).area)]
    assert tops[0] == tops[1] > 256 and tops[2] < 64


def test_a_face_that_fills_the_frame_keeps_eyes_and_mouth():
    plan = plan_of(512, 512)
    whole, mouth = Box(10, -60, 490, 560), Box(180, 300, 150, 90)
    burner = captions.Burner(LINES, plan, [mouth, whole])
    assert burner.area is not None
    touched = changed(frame_of(plan), burner.draw(frame_of(plan), FPS)).any(1)
    assert not touched[300:390].any() and not touched[round(-60 + 0.15 * 560) : round(-60 + 0.4 * 560)].any()


def test_the_frame_itself_is_drawn_into_and_only_while_something_is_said():
    plan = plan_of(512, 512)
    burner = captions.Burner([Line("Bonjour.", 1.0, 2.0)], plan)
    for number, is_said in [(0, False), (24, False), (25, True), (49, True), (50, False), (199, False)]:
        frame = frame_of(plan)
        assert burner.draw(frame, number) is frame
        assert changed(frame_of(plan), frame).any() == is_said


def test_all_of_latin_is_drawn_and_what_is_lacking_is_told_and_left_out():
    plan = plan_of(512, 512)
    latin = "éèêëàâçœŒÉÀ«»—–…’“”ñ¿¡áíóúãõìòùäöüßÄÖÜåøæþðłżčšžőűğışț€№ e\u0301 ;:!?\u00a0\u202f\u2011"
    assert captions.Burner([Line(latin, 0, 2)], plan).notices == ()
    burner = captions.Burner([Line("Oui 😀 नमस्ते שלום\u200d\ufe0f!", 0, 2)], plan)
    (notice,) = burner.notices
    assert (
        notice.key == "CaptionsLackLetters" and "😀" in notice.values["letters"] and "O" not in notice.values["letters"]
    )
    same = captions.Burner([Line("Oui !", 0, 2)], plan)
    assert (burner.draw(frame_of(plan), 0) == same.draw(frame_of(plan), 0)).all()
    assert captions.Burner([Line("😀", 0, 2)], plan).area is None and captions.Burner([], plan).notices == ()


@settings(deadline=None, max_examples=60)
@given(scripts())
def test_any_script_can_be_drawn(lines):
    plan = plan_of(256, 256)
    burner = captions.Burner(lines, plan)
    for number in range(0, 25 * 20, 40):
        burner.draw(frame_of(plan), number)


def test_a_frame_takes_less_than_half_a_millisecond():
    plan = plan_of(512, 512)
    burner, frame = captions.Burner(LINES, plan), frame_of(plan)
    burner.draw(frame, 0)
    times = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(50):
            burner.draw(frame, 0)
        times.append((time.process_time() - started) / 50)
    assert min(times) < 0.0005


@pytest.mark.parametrize("width, height", [(512, 512), (288, 512), (512, 288)])
def test_mouth_and_face_of_a_portrait_stay_clear_in_the_frame(portrait_path, width, height):
    picture = np.asarray(Image.open(portrait_path).convert("RGB"))
    found = face.locate(picture, name="portrait")
    crop_width = 200.0
    crop = Box(found.box.left - 50, found.box.top - 40, crop_width, crop_width * height / width)
    plan = ClipPlan(100, FPS, height, width, crop)
    mouth, whole = captions.keep_clear([found], plan)
    lips = (found.landmarks[[61, 291, 0, 17], :2] - [crop.left, crop.top]) * width / crop_width
    assert ((lips > [mouth.left, mouth.top]) & (lips < [mouth.left + mouth.width, mouth.top + mouth.height])).all()
    assert whole.height == pytest.approx(found.box.height * width / crop_width)
    assert mouth.height < whole.height / 2
