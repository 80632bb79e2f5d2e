"""A script becomes voices on one time axis, by real synthesisers."""

import itertools
import math
import wave
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import media
from pipeline.engine import Step
from pipeline.errors import (
    HubOffline,
    LanguageUnknown,
    OutputNotWritable,
    ScriptEmpty,
    SpeedUnsupported,
    VoiceError,
    VoiceMissing,
    VoiceSpeaksOther,
    VoiceUnknown,
)
from pipeline.voice import espeak, files
from pipeline.voice import speak as speaking
from pipeline.voice.kokoro import Kokoro
from pipeline.voice.speak import catalogue, languages, speak, write_wav
from pipeline.voice.spoken import Spoken
from tests.voice import needs_espeak

BOTH = ("heart", "heart_deep")  # which are always ready


def spoken(script: str, **options) -> Spoken:
    """What a script sounds like."""
    steps = speak(script, **{"voices": BOTH} | options)
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return finished.value


def level_db(waveform: np.ndarray) -> float:
    """Of the louder parts, dB of full scale."""
    blocks = np.square(waveform[: len(waveform) // 2400 * 2400].reshape(-1, 2400)).mean(1)
    blocks = blocks[blocks > 1e-6]
    return float(10 * np.log10(blocks[blocks > blocks.mean() / 10].mean()))


@pytest.fixture
def no_kokoro(monkeypatch):
    """As where Kokoro was never downloaded."""
    monkeypatch.setattr(files, "found", lambda: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(speaking, "_failed", -math.inf)


def test_two_speakers_have_two_voices_and_never_speak_at_once():
    said = spoken("A: Good morning, how are you?\nB: Very well, thank you.\nA: I am glad.")
    assert len(said.waveforms) == len(said.marks) == 2
    assert len(said.waveforms[0]) == len(said.waveforms[1])
    assert not (np.abs(said.waveforms[0]) * np.abs(said.waveforms[1])).any()
    assert [line.speaker for line in said.lines] == [0, 1, 0]
    assert abs(level_db(said.waveforms[0]) - level_db(said.waveforms[1])) < 1.5


def test_lines_and_marks_stand_where_the_sound_is():
    said = spoken("One sentence is said. And then another one!\n\nA new paragraph.")
    voice = np.abs(said.waveforms[0])
    inside = np.zeros(len(voice), bool)
    for line in said.lines:
        first, last = round(line.start * said.sample_rate), round(line.end * said.sample_rate)
        inside[first:last] = True
        assert voice[first:last].max() > 0.1
    assert not voice[~inside].any()
    assert [line.text for line in said.lines] == ["One sentence is said.", "And then another one!", "A new paragraph."]
    assert said.lines[2].start - said.lines[1].end > said.lines[1].start - said.lines[0].end > 0.3
    marks = said.marks[0]
    assert all(one.end == pytest.approx(other.start) for one, other in itertools.pairwise(marks))
    assert all(one.sound != other.sound for one, other in itertools.pairwise(marks) if one.sound == "sil")
    for mark in marks:
        if mark.sound == "sil" and mark.end - mark.start > 0.4:
            middle = round((mark.start + mark.end) / 2 * said.sample_rate)
            assert voice[middle] < 0.01
        if mark.sound in ("i", "ɛ", "eɪ"):
            assert voice[round(mark.start * said.sample_rate) : round(mark.end * said.sample_rate)].max() > 0.03


def test_the_same_script_gives_the_same_sound():
    one, other = spoken("Say this twice."), spoken("Say this twice.")
    assert np.array_equal(one.waveforms[0], other.waveforms[0]) and one.lines == other.lines


def test_no_peak_leaves_full_scale():
    said = spoken("A: BANG! Stop it now!\nB: POW! Who are you to say so?")
    assert all(np.abs(waveform).max() <= 0.951 for waveform in said.waveforms)
    loud = (3 * np.sin(np.arange(24_000) / 20)).astype(np.float32)
    assert np.abs(speaking._limited(loud)).max() <= 0.951


def test_speed_shortens_words_and_pauses():
    slow, usual, fast = (spoken("First this. Then that.", speed=speed) for speed in (0.5, 1.0, 2.0))
    pauses = [said.lines[1].start - said.lines[0].end for said in (slow, usual, fast)]
    assert pauses == pytest.approx([2 * pauses[1], pauses[1], pauses[1] / 2])
    assert slow.lines[0].end > usual.lines[0].end > fast.lines[0].end


def test_progress_is_told_by_sentence_and_closing_stops():
    steps = speak("One. Two. Three.", voices=BOTH)
    first, second = next(steps), next(steps)
    assert (first.stage, first.done, first.total) == ("StageSpeaking", 0, 3) and second.done == 1
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)


def test_a_script_of_the_second_speaker_alone_has_one_voice():
    assert len(spoken("B: Only me.").waveforms) == 1


def test_a_voice_never_reads_another_language():
    with pytest.raises(VoiceSpeaksOther) as caught:
        spoken("Bonjour, je m'appelle Grace.", voices=("heart", None))
    assert caught.value.values["speaks"] == "en" and caught.value.values["language"] == "fr"
    with pytest.raises(VoiceSpeaksOther):
        spoken("Hello there.", language="fr", voices=("heart", None))


def test_where_letters_tell_nothing_the_voice_does():
    assert spoken("1234", voices=("heart", None)).lines


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (VoiceUnknown, {"voices": ("nobody\n" * 30, None)}),
        (LanguageUnknown, {"language": "xx"}),
        (LanguageUnknown, {"language": ""}),
        (LanguageUnknown, {"language": "../../etc"}),
        (SpeedUnsupported, {"speed": 0.4}),
        (SpeedUnsupported, {"speed": 2.5}),
        (SpeedUnsupported, {"speed": float("nan")}),
    ],
)
def test_what_cannot_be_honoured_is_refused_in_words(error, options):
    with pytest.raises(error) as caught:
        spoken("Hello.", **options)
    assert caught.value.text("en") != caught.value.text("fr")


@pytest.mark.parametrize("script", ["", "😀", "—"])
def test_an_empty_script_is_refused(script):
    with pytest.raises(ScriptEmpty):
        spoken(script)


def test_regions_of_a_language_are_the_language():
    assert spoken("Hello.", language="en-CA").lines and spoken("Hello.", language="EN_us").lines


def test_english_needs_no_download(no_kokoro):
    assert spoken("Hello, my name is Grace.", voices=(None, None)).notices == ()


@needs_espeak
def test_a_natural_voice_that_is_not_here_is_asked_for_once_needed(no_kokoro, monkeypatch):
    asked: list[str] = []

    def fetch() -> Iterator[Step]:
        asked.append("fetch")
        yield from _offline()

    monkeypatch.setattr(files, "fetch", fetch)
    spoken("Hello.", voices=(None, None))
    assert not asked  # a natural English voice is here
    for _ in range(2):
        assert spoken("Bonjour, je m'appelle Grace.", voices=(None, None)).notices
    assert asked == ["fetch"]  # a Hub that did not answer is not asked again at once


@needs_espeak
def test_french_without_its_natural_voice_is_robotic_and_says_how_to_get_it(no_kokoro):
    said = spoken("Bonjour, je m'appelle Grace.", voices=(None, None))
    (notice,) = said.notices
    assert notice.key == "VoiceRoboticNow" and "voices --download" in notice.text("fr")
    assert said.sample_rate == 24_000 and level_db(said.waveforms[0]) == pytest.approx(-20, abs=2)


def test_a_language_nobody_reads_here_says_what_to_install(no_kokoro, monkeypatch):
    monkeypatch.setattr(espeak, "program", lambda: None)
    with pytest.raises(VoiceMissing) as caught:
        spoken("Bonjour, je m'appelle Grace.", voices=(None, None))
    assert "voices --download" in caught.value.text("en")
    with pytest.raises(LanguageUnknown):
        spoken("Guten Tag.", language="de")


def test_a_voice_asked_for_by_name_is_downloaded_or_refused(no_kokoro, monkeypatch):
    monkeypatch.setattr(files, "fetch", _offline)
    with pytest.raises(HubOffline):
        spoken("Bonjour.", language="fr", voices=("ff_siwis", None))


def _offline() -> Iterator[Step]:
    """What a download does here."""
    yield Step("StageFetchingVoice")
    raise HubOffline(repository="kokoro", cache="none")


@pytest.mark.skipif(Kokoro().status("fr") is not None, reason="Kokoro's network is not here")
def test_two_french_speakers_are_both_natural_and_not_alike():
    said = spoken("A: Bonjour madame.\nB: Bonjour madame.", language="fr", voices=(None, None))
    assert said.notices == ()
    heights = []
    for waveform, line in zip(said.waveforms, said.lines, strict=True):
        part = waveform[round(line.start * 24_000) : round(line.end * 24_000)]
        power = np.square(np.abs(np.fft.rfft(part)))
        hz = np.fft.rfftfreq(len(part), 1 / 24_000)
        heights.append(float((power * hz)[hz < 4000].sum() / power[hz < 4000].sum()))
    assert heights[1] < 0.93 * heights[0]  # deeper by 5/6


@needs_espeak
def test_each_speakers_language_is_told():
    script = "A: Good morning, and how are you all today?\nB: Bonjour, je vais très bien ce matin, merci."
    assert spoken(script, voices=(None, None)).languages == ("en", "fr")


def test_a_robotic_voice_is_announced():
    said = spoken("Guten Tag, ich heiße Grete.", voices=(None, None))
    assert [notice.key for notice in said.notices] == ["VoiceRobotic"]


def test_words_in_another_alphabet_are_told():
    said = spoken("Hello 漢字 my dear old friend.")
    assert [notice.key for notice in said.notices] == ["ScriptLeftOut"] and "漢字" in said.notices[0].text("en")


def test_what_does_not_fit_is_cut_and_told(monkeypatch):
    monkeypatch.setattr(speaking, "MAX_SECONDS", 4.0)
    said = spoken("This is the first sentence. This is the second one. " * 3)
    (notice,) = said.notices
    assert notice.key == "ScriptCut" and notice.values["count"] == len(said.lines) < notice.values["total"] == 6
    assert len(said.waveforms[0]) / said.sample_rate <= 4.0


def test_the_list_of_voices_begins_with_natural_ones_and_names_each_once():
    voices = catalogue()
    assert languages()[:5] == ["en", "fr", "es", "it", "pt"]
    assert len({voice.name for voice in voices}) == len(voices)
    for language in ("en", "fr"):
        robotic = [voice.is_robotic for voice in voices if voice.language == language]
        assert robotic == sorted(robotic) and robotic[0] is False


def test_a_written_voice_reads_back(tmp_path):
    said = spoken("Hello there.")
    write_wav(said.waveforms[0], said.sample_rate, tmp_path / "voice.wav")
    with wave.open(str(tmp_path / "voice.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert file.getnframes() == len(said.waveforms[0])
    assert media.load_speech(tmp_path / "voice.wav").seconds == pytest.approx(len(said.waveforms[0]) / 24_000)


def test_a_voice_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(OutputNotWritable):
        write_wav(np.zeros(10), 24_000, tmp_path / "none" / "voice.wav")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60))
def test_any_text_is_spoken_or_refused(script):
    try:
        said = spoken(script, language="en")
    except VoiceError:
        return
    assert np.isfinite(said.waveforms[0]).all() and said.lines
