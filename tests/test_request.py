"""A request checks itself: what a visitor mistypes is refused in words, what a program mistypes is a ValueError."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from pipeline import errors
from pipeline.request import LARGEST_SIZE, MAX_SEED, MAX_TEXT_LENGTH, SMALLEST_SIZE, RenderRequest, read_points

FIVE = ((120.0, 150.0), (210.0, 150.0), (135.0, 240.0), (195.0, 240.0), (165.0, 300.0))
FIVE_WRITTEN = "120,150 210,150 135,240 195,240 165,300"


def ask(**changes) -> RenderRequest:
    return RenderRequest(**{"portrait": "nowhere.jpg", "speech": "nowhere.wav", **changes})


def test_it_opens_no_file():
    assert ask().portrait == Path("nowhere.jpg")


def test_paths_may_be_written_as_strings():
    request = ask(output="clips/clip.mp4")
    assert all(isinstance(path, Path) for path in (request.portrait, request.speech, request.output))


def test_a_missing_seed_is_drawn_once():
    seeds = {ask().seed for _ in range(20)}
    assert len(seeds) > 15 and all(seed in range(MAX_SEED + 1) for seed in seeds)
    request = ask()
    assert request.seed == request.seed == replace(request, size=256).seed


def test_a_given_seed_is_kept():
    assert [ask(seed=seed).seed for seed in (0, 7, MAX_SEED)] == [0, 7, MAX_SEED]


@pytest.mark.parametrize("change", [{"seed": -1}, {"seed": MAX_SEED + 1}, {"face": 0}, {"face": -2}])
def test_a_number_no_page_offers_is_a_mistake_of_the_program(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        ask(**change)


@pytest.mark.parametrize("size", [0, -512, SMALLEST_SIZE - 8, SMALLEST_SIZE + 4, 513, LARGEST_SIZE + 8])
def test_a_size_out_of_range_is_refused_with_the_range(size):
    with pytest.raises(errors.SizeUnsupported, match=f"{size}.*{SMALLEST_SIZE}.*{LARGEST_SIZE}"):
        ask(size=size)


@pytest.mark.parametrize("size", [SMALLEST_SIZE, 512, 768, LARGEST_SIZE])
def test_a_size_in_range_is_kept(size):
    assert ask(size=size).size == size


def test_an_unknown_engine_is_refused_with_the_known_ones():
    with pytest.raises(errors.EngineUnknown, match=r"'best'.*draft, avatar"):
        ask(engine="best")


@pytest.mark.parametrize("language", ["", "E", "english", "en_CA", "de\n", "--x", "fr-"])
def test_what_names_no_language_is_refused_with_examples(language):
    with pytest.raises(errors.LanguageUnknown, match=r"en, fr or es"):
        ask(language=language)


@pytest.mark.parametrize("written", ["fr", "FR", "fr-CA", "fr-ca"])
def test_a_language_may_name_its_region(written):
    assert ask(language=written).language == "fr"


def test_the_voice_is_a_recording_or_a_script():
    for change in ({"speech": None}, {"script": "Hello."}, {"speech": None, "script": " \n"}):
        with pytest.raises(errors.SpeakersUnclear):
            ask(**change)
    with pytest.raises(errors.SpeakersUnclear):
        ask(speech=None, script="Hello.", second_speech="nowhere.wav")
    assert ask(speech=None, script="Hello.").speech is None


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"framing": "4:3"}, errors.FramingUnknown),
        ({"captions": "yes"}, errors.CaptionsUnknown),
        ({"mood": "bored"}, errors.MoodUnknown),
        ({"speed": 2.5}, errors.SpeedUnsupported),
        ({"speed": float("nan")}, errors.SpeedUnsupported),
    ],
)
def test_what_is_not_on_offer_is_refused_with_what_is(change, error):
    with pytest.raises(error):
        ask(**change)


@pytest.mark.parametrize("change", [{"motion": -0.1}, {"expression": 1.5}, {"second_start": -1}, {"second_face": 0}])
def test_a_value_no_slider_gives_is_a_mistake_of_the_program(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        ask(**change)


@pytest.mark.parametrize(
    ("change", "option", "needs"),
    [
        ({"voice": "heart"}, "voice", "script"),
        ({"speed": 1.5}, "speed", "script"),
        ({"second_start": 2.0}, "second_start", "second_speech"),
        ({"second_text": "Yes."}, "second_text", "second_speech"),
        ({"speech": None, "script": "Hello.", "text": "Hello."}, "text", "speech"),
    ],
)
def test_what_would_do_nothing_is_refused(change, option, needs):
    with pytest.raises(errors.OptionUnused, match=f"{option}.*{needs}"):
        ask(**change)


def test_a_text_may_be_as_long_as_the_limit_and_no_longer():
    assert len(ask(text="a" * MAX_TEXT_LENGTH).text) == MAX_TEXT_LENGTH
    with pytest.raises(errors.TextTooLong, match=f"{MAX_TEXT_LENGTH + 1}.*{MAX_TEXT_LENGTH}"):
        ask(text="a" * (MAX_TEXT_LENGTH + 1))


def test_five_points_become_numbers():
    assert ask(points=[[120, 150], [210, 150], [135, 240], [195, 240], [165, 300]]).points == FIVE


@pytest.mark.parametrize(
    "points", [[], FIVE[:4], (*FIVE, (1.0, 1.0)), (*FIVE[:4], (float("nan"), 1.0)), (*FIVE[:4], (1.0, float("inf")))]
)
def test_other_than_five_finite_points_are_refused(points):
    with pytest.raises(errors.PointsUnreadable):
        ask(points=points)


def test_a_request_does_not_change():
    with pytest.raises(FrozenInstanceError):
        ask().size = 768  # type: ignore[misc]


@pytest.mark.parametrize("written", [FIVE_WRITTEN, f"  {FIVE_WRITTEN}\n", FIVE_WRITTEN.replace(" ", "\n")])
def test_points_read_as_people_type_them(written):
    assert read_points(written) == FIVE


@pytest.mark.parametrize(
    "written",
    [
        "",
        "120,150",
        FIVE_WRITTEN + " 1,2",
        "1,2 3,4 5,6 7,8 9",
        "1,2 3,4 5,6 7,8 a,b",
        "1,2 3,4 5,6 7,8 nan,1",
        "1,2,3",
    ],
)
def test_points_that_cannot_be_read_are_shown_back(written):
    with pytest.raises(errors.PointsUnreadable) as refusal:
        read_points(written)
    assert refusal.value.values["found"] == written
    assert "120,150" in refusal.value.text("fr")


def test_points_without_an_end_are_refused_before_they_are_read():
    with pytest.raises(errors.PointsUnreadable):
        read_points("1,1 " * 1_000_000)


@pytest.mark.parametrize("name", ["text", "script", "prompt"])
def test_half_a_character_becomes_a_question_mark(name):
    voice = {"speech": None} if name == "script" else {}
    assert getattr(ask(**voice, **{name: "Oh \ud83d"}), name) == "Oh ?"


def test_what_is_shown_back_is_bounded():
    with pytest.raises(errors.PointsUnreadable) as refusal:
        read_points("9" * 10_000)
    assert len(str(refusal.value)) < 400
