"""The label stands clear of faces and captions, reads on any picture, survives the encoder, and is only left out where
that is allowed."""

import io
import time
from collections.abc import Callable, Iterable

import av
import cv2
import numpy as np
import pytest

from pipeline import captions, media
from pipeline.errors import LabelRequired, UnlabelledUnknown
from pipeline.face import find_faces
from pipeline.plan import FRAMINGS, SQUARE, Box, ClipPlan, plan_clip
from pipeline.request import RenderRequest
from pipeline.texts import LANGUAGES
from pipeline.trust.finish import Finish
from pipeline.trust.label import ROWS, TEXT, UNLABELLED, Label, check_unlabelled, why_unlabelled
from pipeline.voice.spoken import Line
from tests.quality.portraits import portraits

AA = 4.5  # contrast of text. Source: WCAG 2.2, success criterion 1.4.3
SIZES = (256, 360, 512, 768, 1080)
NUM_FRAMES = 12  # encoded: one that stands alone, and ones that are predicted


def plan_of(size: int = 512, framing: str = SQUARE) -> tuple[ClipPlan, Box]:
    """The plan of a clip of one person, and where the face is in its frames."""
    face = Box(900, 700, 500, 700)
    plan = plan_clip(seconds=1, size=size, picture_size=(2400, 2400), faces=[face], framing=framing)
    scale = plan.width / plan.crop.width
    left, top = (face.left - plan.crop.left) * scale, (face.top - plan.crop.top) * scale
    return plan, Box(left, top, face.width * scale, face.height * scale)


def bare(height: int, width: int) -> ClipPlan:
    """The plan of a frame alone."""
    return ClipPlan(25, 25, height, width, Box(0, 0, width, height))


def overlap(one: Box, other: Box) -> bool:
    """Do two boxes share a pixel?"""
    beside = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    above = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    return beside > 0 and above > 0


def cut_out(frame: np.ndarray, box: Box) -> np.ndarray:
    """What a frame shows in a box."""
    top, left = int(box.top), int(box.left)
    return frame[top : top + int(box.height), left : left + int(box.width)]


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Relative luminance of sRGB pixels, 0..1. Source: WCAG 2.2, definition of relative luminance."""
    share = pixels / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def letters_of(label: Label) -> np.ndarray:
    """(box.height, box.width) 0..1: how much of each pixel is letter, as drawn on black."""
    frame = np.zeros((int(label.box.top + label.box.height), int(label.box.left + label.box.width), 3), np.uint8)
    alone = cut_out(label.draw(frame), label.box)[:, :, 0].astype(float)
    return np.clip((alone - 20) / (255 - 20), 0, 1)


def contrast(seen: np.ndarray, letters: np.ndarray, percentile: float = 0.0) -> float:
    """WCAG contrast between strokes and what directly surrounds them.

    Args:
        seen: (height, width, 3) uint8, the label in a frame.
        letters: (height, width), of the same label; 0.9 counts as a stroke, what is within 3 pixels of any as its
            surroundings.
        percentile: Share left out of the darkest strokes and of the lightest surroundings.
    """
    strokes = letters > 0.9
    around = cv2.dilate((letters > 0.02).astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & (letters < 0.02)
    light = luminance(seen.astype(float))
    return float(
        (np.percentile(light[strokes], percentile) + 0.05) / (np.percentile(light[around], 100 - percentile) + 0.05)
    )


def checkerboard(height: int, width: int, cell: int) -> np.ndarray:
    """Black and white squares."""
    rows, columns = np.indices((height, width)) // cell
    return np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)


def plain(*colour: int) -> Callable[[int, int], np.ndarray]:
    """One colour."""
    return lambda height, width: np.full((height, width, 3), colour, np.uint8)


def portrait(name: str) -> Callable[[int, int], np.ndarray]:
    """An example's picture, squeezed into the frame."""
    return lambda height, width: cv2.resize(media.load_portrait(portraits()[name].path), (width, height))


def noise(height: int, width: int) -> np.ndarray:
    """Every pixel any colour."""
    return np.random.default_rng(5).integers(0, 256, (height, width, 3)).astype(np.uint8)


def gradient(height: int, width: int) -> np.ndarray:
    """From black to white, another way in each colour."""
    rows, columns = np.mgrid[0 : 255 : height * 1j, 0 : 255 : width * 1j]
    return np.stack([rows, columns, (rows + columns) / 2], axis=2).astype(np.uint8)


BACKGROUNDS: dict[str, Callable[[int, int], np.ndarray]] = {
    "white": plain(255, 255, 255),
    "black": plain(0, 0, 0),
    "plate's own": plain(20, 20, 20),
    "grey": plain(128, 128, 128),
    "red": plain(255, 0, 0),
    "green": plain(0, 255, 0),
    "blue": plain(0, 0, 255),
    "yellow": plain(255, 255, 0),
    "cyan": plain(0, 255, 255),
    "magenta": plain(255, 0, 255),
    "noise": noise,
    "gradient": gradient,
    **{f"squares of {cell}": lambda h, w, cell=cell: checkerboard(h, w, cell) for cell in (1, 2, 3, 8, 32)},  # type: ignore[misc]
    **{name: portrait(name) for name in portraits()},
}


def moving(background: np.ndarray) -> list[np.ndarray]:
    """Frames in which the background slides by odd steps and turns into its negative every fourth time."""
    slid = [np.roll(background, (7 * number, 11 * number), axis=(0, 1)) for number in range(NUM_FRAMES)]
    return [255 - frame if number % 4 == 3 else frame for number, frame in enumerate(slid)]


def reencoded(frames: Iterable[np.ndarray], crf: int) -> list[np.ndarray]:
    """The frames after H.264."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: av.VideoStream | None = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "veryfast"})
                stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        assert stream is not None
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as written:
        decoded: list[np.ndarray] = [frame.to_ndarray(format="rgb24") for frame in written.decode(video=0)]
        return decoded


# --- where it stands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", SIZES)
def test_it_stands_whole_in_the_frame_and_off_the_face(size, framing):
    plan, face = plan_of(size, framing)
    box = Label(plan, [face]).box
    assert all(value == int(value) for value in (box.left, box.top, box.width, box.height))
    assert min(box.left, box.top) >= 0 < min(box.width, box.height)
    assert box.left + box.width <= plan.width and box.top + box.height <= plan.height
    assert not overlap(box, face)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", [256, 512, 1080])
@pytest.mark.parametrize("words", ["Hello.", "Three long lines of speech that fill two rows of a caption. " * 3])
def test_it_leaves_captions_alone(size, framing, words):
    plan, face = plan_of(size, framing)
    lower_half = Box(face.left + face.width / 4, face.top + 0.6 * face.height, face.width / 2, face.height / 4)
    for clear in ([lower_half, face], [lower_half, face, Box(0, 0.6 * plan.height, plan.width, plan.height)]):
        burner = captions.Burner([Line(words, 0.0, 4.0)], plan, clear)
        assert burner.area is not None
        label = Label(plan, [face], [burner.area, lower_half])
        assert not overlap(label.box, burner.area) and not overlap(label.box, lower_half)
        blank = np.full((plan.height, plan.width, 3), 90, np.uint8)
        captioned = burner.draw(blank.copy(), 10)
        changed = (captioned != blank).any(axis=2)
        assert changed.any() and not cut_out(changed, label.box).any()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("captioned", ["file", "burned"])
def test_a_clip_with_captions_has_it_where_they_are_not(framing, captioned):
    path = portraits()["woman_facing_camera"].path
    picture = media.load_portrait(path)
    face = find_faces(picture)[0]
    plan = plan_clip(seconds=1, size=512, picture_size=picture.shape[1::-1], faces=[face.box], framing=framing)
    request = RenderRequest(portrait=path, script="Hello.", captions=captioned)
    finish = Finish(request, plan, [face], [Line("Hello.", 0.5, 1.0)])
    blank = np.full((plan.height, plan.width, 3), 90, np.uint8)
    changed = (finish.draw(blank.copy(), 0) != blank).any(axis=2)  # before anything is said: the label alone
    players = captions.where_players_draw(plan)
    burned = captions.Burner([Line("Hello.", 0.5, 1.0)], plan, captions.keep_clear([face], plan)).area
    assert changed.any() and burned is not None
    assert not cut_out(changed, players if captioned == "file" else burned).any()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_captions_go_round_it_when_it_is_there_first(framing):
    plan, face = plan_of(512, framing)
    label = Label(plan, [face])
    burner = captions.Burner([Line("A line that is said.", 0.0, 4.0)], plan, [face, label.box])
    assert burner.area is not None and not overlap(burner.area, label.box)


@pytest.mark.parametrize("where", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_it_goes_to_another_corner_than_the_face(where):
    face = Box(20 + 512 * where[1], 10 + 240 * where[0], 360, 250)
    box = Label(bare(512, 912), [face]).box
    row, column = box.top > 256, box.left + box.width / 2 > 456
    assert not overlap(box, face) and (row, column) != where


def test_two_faces_leave_it_a_corner():
    faces = [Box(60, 60, 200, 280), Box(640, 200, 200, 280)]
    assert not any(overlap(Label(bare(512, 912), faces).box, face) for face in faces)


def test_a_face_that_fills_the_frame_is_covered_where_it_matters_least():
    mouth = Box(150, 350, 200, 100)
    box = Label(bare(512, 512), [Box(10, 0, 490, 512)], [mouth]).box
    assert not overlap(box, mouth)
    assert box.height > 2 * Label(bare(512, 512)).box.height * 0.7  # two rows cover less of a face than one


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 256), (128, 640), (640, 128), (270, 1080), (1080, 270)])
def test_odd_frames_have_one_too(height, width):
    label = Label(bare(height, width), [Box(width / 4, height / 4, width / 2, height / 2)])
    frame = label.draw(np.zeros((height, width, 3), np.uint8))
    box = label.box
    assert min(box.left, box.top) >= 0 and box.left + box.width <= width and box.top + box.height <= height
    assert cut_out(frame, box).max() > 150


# --- how it reads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", SIZES)
def test_letters_are_16_pixels_tall_at_512_and_in_proportion(size, framing):
    plan, face = plan_of(size, framing)
    label = Label(plan, [face])
    rows = np.flatnonzero((letters_of(label) > 0.5).any(axis=1))
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)  # rows of text, and accents over them
    tall = max(len(run) for run in runs) if len(runs) > 2 else rows[-1] - rows[0] + 1
    assert tall >= (16 * min(plan.height, plan.width) / 512 if size > 256 else 10)


def test_it_is_the_text_in_both_languages():
    assert TEXT == "Généré par IA · AI-generated" and ROWS == ((TEXT,), ("Généré par IA", "AI-generated"))


@pytest.mark.parametrize("size", [256, 512, 1080])
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_it_contrasts_with_what_surrounds_it_on_any_picture(background, size):
    label = Label(bare(size, size))
    frame = label.draw(BACKGROUNDS[background](size, size).copy())
    assert contrast(cut_out(frame, label.box), letters_of(label)) >= AA


@pytest.mark.parametrize("background", ["noise", "squares of 1", "white", "woman_facing_camera"])
def test_nothing_outside_its_box_is_altered(background):
    picture = BACKGROUNDS[background](360, 640)
    label = Label(bare(360, 640), [Box(100, 60, 150, 200)])
    drawn = label.draw(picture.copy())
    cut_out(drawn, label.box)[:] = cut_out(picture, label.box)
    assert np.array_equal(drawn, picture)


def test_it_looks_the_same_whatever_moves_below_it():
    label = Label(bare(256, 256))
    seen = np.array([cut_out(label.draw(frame), label.box) for frame in moving(noise(256, 256))]).astype(int)
    changing = (np.ptp(seen, axis=0) > 0).any(axis=2)
    assert changing.mean() < 0.03  # its round corners alone
    assert not changing[:, 12:-12].any()


def test_a_frame_given_twice_is_not_drawn_over():
    label = Label(bare(256, 256))
    frame = label.draw(noise(256, 256))
    once = frame.copy()
    assert np.abs(label.draw(frame).astype(int) - once).mean() < 0.01


def glyphs(letters: np.ndarray, seen: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each letter as drawn and as seen, cut out of a label in one row, side by side with 32 columns each."""
    columns = np.flatnonzero((letters > 0.5).any(axis=0))
    runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)

    def cell(picture: np.ndarray, run: np.ndarray) -> np.ndarray:
        padded = np.zeros((len(picture), 32))
        padded[:, : len(run)] = picture[:, run]
        return padded.ravel()

    return [(cell(letters, run), cell(seen.mean(axis=2) - 20, run)) for run in runs]


def share_read(letters: np.ndarray, seen: np.ndarray) -> float:
    """The share of letters that look more like themselves than like any other letter of the label."""
    pairs = glyphs(letters, seen)
    drawn = np.array([shape for shape, _ in pairs])
    right = 0
    for shape, sight in pairs:
        taken_for = drawn[int(np.argmax([np.corrcoef(sight, other)[0, 1] for other in drawn]))]
        right += np.corrcoef(shape, taken_for)[0, 1] > 0.97  # the same letter stands in several places
    return right / len(pairs)


@pytest.mark.parametrize("scale", [1.0, 0.75])
@pytest.mark.parametrize("size", [512, 256])
@pytest.mark.parametrize("background", ["white", "noise", "squares of 2", "squares of 8", "woman_facing_camera"])
def test_it_reads_after_h264_at_crf_28(background, size, scale):
    label = Label(bare(size, size), [Box(0.3 * size, 0.25 * size, 0.4 * size, 0.4 * size)])
    frames = [label.draw(frame) for frame in moving(BACKGROUNDS[background](size, size))]
    sent = round(scale * size)
    decoded = reencoded((cv2.resize(frame, (sent, sent), interpolation=cv2.INTER_AREA) for frame in frames), crf=28)
    letters, inside = letters_of(label), (slice(3, -3), slice(10, -10))
    brightness = []
    for frame in decoded:
        seen = cut_out(cv2.resize(frame, (size, size), interpolation=cv2.INTER_CUBIC), label.box)
        assert contrast(seen, letters, percentile=10 if sent >= 256 else 50) >= AA
        assert np.corrcoef(seen.mean(axis=2)[inside].ravel(), letters[inside].ravel())[0, 1] > 0.85
        if size == 512:
            assert share_read(letters, seen) >= 0.9
        brightness.append(seen[inside].mean())
    assert np.ptp(brightness) < 5  # 2 % of the range: no flicker that is seen, though the picture flashes


def test_what_cannot_be_read_is_told_from_what_can():
    label = Label(bare(512, 512))
    letters, frame = letters_of(label), label.draw(noise(512, 512))
    clear, blurred = (cut_out(seen, label.box) for seen in (frame, cv2.GaussianBlur(frame, (0, 0), 6)))
    assert share_read(letters, clear) == 1 and contrast(clear, letters, percentile=10) > AA
    assert share_read(letters, blurred) < 0.5 and contrast(blurred, letters, percentile=10) < AA
    assert share_read(letters, clear[:, ::-1]) < 0.5


def test_it_takes_less_than_a_millisecond():
    label, frame = Label(bare(512, 512)), noise(512, 512)
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        label.draw(frame)
        seconds.append(time.perf_counter() - started)
    assert sorted(seconds)[10] < 1e-3  # others use the machine, too


# --- when there is none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", UNLABELLED)
def test_a_draft_at_home_may_go_without_for_a_reason(reason):
    check_unlabelled(reason, "draft", is_public=False)


@pytest.mark.parametrize("engine", ["draft", "avatar"])
@pytest.mark.parametrize("is_public", [True, False])
def test_a_labelled_clip_needs_no_reason(engine, is_public):
    check_unlabelled(None, engine, is_public=is_public)


@pytest.mark.parametrize(
    ("engine", "is_public", "said"),
    [
        ("draft", True, ("public", "publique")),
        ("avatar", True, ("licence", "licence")),
        ("avatar", False, ("licence", "licence")),
    ],
)
@pytest.mark.parametrize("reason", UNLABELLED)
def test_the_avatar_and_public_pages_keep_their_label(reason, engine, is_public, said):
    with pytest.raises(LabelRequired) as raised:
        check_unlabelled(reason, engine, is_public=is_public)
    assert all(word in raised.value.text(language) for language, word in zip(LANGUAGES, said, strict=True))


@pytest.mark.parametrize("reason", ["", "because", "PRIVATE", "private "])
@pytest.mark.parametrize("engine", ["draft", "avatar"])
def test_an_unknown_reason_is_refused(reason, engine):
    with pytest.raises(UnlabelledUnknown, match="private, artistic, disclosed"):
        check_unlabelled(reason, engine, is_public=False)


@pytest.mark.parametrize("reason", UNLABELLED)
def test_each_reason_has_its_sentence(reason):
    notice = why_unlabelled(reason)
    assert notice.text("en").startswith("Without a label") and notice.text("fr").startswith("Sans étiquette")
    assert len({why_unlabelled(other).text("en") for other in UNLABELLED}) == len(UNLABELLED)
