"""Kokoro with its published network: what it reads, what it says, and when it says it has said what."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import models
from pipeline.voice import espeak, files, french, kokoro
from pipeline.voice.kokoro import MOST_SYMBOLS, SAMPLE_RATE, STYLE_SIZE, VOICES, Kokoro
from tests.voice import needs_espeak

SAID = "Papa a bu beaucoup de café, puis il est parti à la plage."
VOWELS = set("aeiouyøœɔɛəɑ")
STOPS = set("pbtdkɡ")  # of these the lips or the tongue close
HOSTILE = [
    "",
    " ",
    "...",
    "?!",
    "🙂🙂",
    "\u202e\u0000\u0007",
    "漢字",
    "e\u0301" * 40,
    "[[espeak]] <speak/>",
    "'" * 50,
    "l'",
    "-",
]


def level(waveform: np.ndarray, start: float, end: float) -> float:
    """dB of the middle of a span."""
    part = waveform[round((2 * start + end) / 3 * SAMPLE_RATE) : round((start + 2 * end) / 3 * SAMPLE_RATE)]
    return float(10 * np.log10(np.mean(part**2) + 1e-9))


@pytest.mark.parametrize("voice", VOICES)
def test_every_voice_is_whole(voice: str) -> None:
    style = np.frombuffer(models.read(f"voices/{VOICES[voice].style or voice}.bin"), "<f4")
    assert style.size == MOST_SYMBOLS * STYLE_SIZE and np.isfinite(style).all() and np.abs(style).max() < 10


@pytest.mark.parametrize(("voice", "speed"), [("ff_siwis", 1.0), ("ff_siwis_deep", 0.7), ("am_michael", 1.5)])
def test_durations_add_up_to_the_sound_exactly(voice: str, speed: float) -> None:
    symbols = kokoro.symbols_of(SAID, "fr")
    waveform, seconds = kokoro._run(symbols, voice, speed)
    assert len(seconds) == len(symbols) + 2
    longer, usual = VOICES[voice].throat
    unit = kokoro.UNIT_SAMPLES * longer // usual
    units = np.array(seconds) * SAMPLE_RATE / unit
    assert np.allclose(units, units.round()) and units.min() >= 1
    assert units.round().sum() * unit == len(waveform)


def test_vowels_are_loud_and_closures_quiet_where_the_marks_are() -> None:
    spoken = Kokoro().speak(SAID, voice="ff_siwis", language="fr", speed=1.0)
    levels = {
        kind: [level(spoken.waveform, mark.start, mark.end) for mark in spoken.marks if mark.sound[0] in sounds]
        for kind, sounds in (("vowel", VOWELS), ("stop", STOPS))
    }
    assert len(levels["vowel"]) > 15 and len(levels["stop"]) > 8
    assert np.median(levels["vowel"]) > np.median(levels["stop"]) + 6
    pauses = [level(spoken.waveform, mark.start, mark.end) for mark in spoken.marks if mark.sound == "sil"]
    assert max(pauses) < np.median(levels["vowel"]) - 25


def test_marks_name_every_sound_in_order_without_a_gap() -> None:
    spoken = Kokoro().speak("Bonjour, je m'appelle Grace.", voice="ff_siwis", language="fr", speed=1.0)
    assert "".join(mark.sound for mark in spoken.marks if mark.sound != "sil") == "bɔ̃ʒuʁʒəmapɛlɡʁas"
    assert spoken.marks[0].start == 0 and spoken.marks[-1].end == pytest.approx(len(spoken.waveform) / SAMPLE_RATE)
    assert all(mark.end == following.start for mark, following in zip(spoken.marks, spoken.marks[1:], strict=False))


def test_same_arguments_give_same_sound_and_speed_gives_a_shorter_one() -> None:
    usual = Kokoro().speak("Bonjour tout le monde.", voice="ff_siwis", language="fr", speed=1.0)
    again = Kokoro().speak("Bonjour tout le monde.", voice="ff_siwis", language="fr", speed=1.0)
    fast = Kokoro().speak("Bonjour tout le monde.", voice="ff_siwis", language="fr", speed=1.5)
    assert np.array_equal(usual.waveform, again.waveform) and usual.marks == again.marks
    assert len(fast.waveform) < 0.8 * len(usual.waveform)
    assert usual.waveform.dtype == np.float32 and usual.waveform.ndim == 1


def test_two_first_sentences_at_once_open_one_network() -> None:
    kokoro._session.cache_clear()
    said: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: said.append(len(Kokoro().speak("Oui.", voice="ff_siwis", language="fr", speed=1.0).waveform))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(said)) == 1 and said[0] > 0 and kokoro._session.cache_info().misses == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_text_without_words_says_nothing_and_breaks_nothing(text: str) -> None:
    for language in ("fr", "en", *(("es",) if espeak.program() else ())):
        symbols = kokoro.symbols_of(text, language)
        assert set(symbols) <= set(kokoro.NUMBER_OF)
    if not any(letter.isalpha() for letter in text):
        spoken = Kokoro().speak(text, voice="ff_siwis", language="fr", speed=1.0)
        assert spoken.waveform.shape == (0,) and spoken.marks == ()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gives_french_symbols_that_the_network_knows(text: str) -> None:
    assert set(kokoro.symbols_of(text, "fr")) <= set(kokoro.NUMBER_OF)


@pytest.mark.parametrize("text", ["mot " * 400, "un, deux, " * 150, "a" * 3000])
def test_long_texts_are_cut_between_words_and_nothing_is_lost(text: str) -> None:
    symbols = kokoro.symbols_of(text, "fr")
    pieces = list(kokoro._pieces(symbols))
    assert max(map(len, pieces)) <= MOST_SYMBOLS and len(pieces) > 1
    assert "".join(pieces).replace(" ", "") == symbols.replace(" ", "")
    if " " in symbols:
        assert all(symbols.startswith(piece.strip() + " ") or piece.strip() + " " in symbols for piece in pieces[:-1])


def test_a_text_of_several_pieces_is_one_sound_with_marks_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kokoro, "MOST_SYMBOLS", 20)
    text = "le chat dort, le chat dort, le chat dort."
    assert len(list(kokoro._pieces(kokoro.symbols_of(text, "fr")))) == 3
    spoken = Kokoro().speak(text, voice="ff_siwis", language="fr", speed=1.0)
    assert spoken.marks[-1].end == pytest.approx(len(spoken.waveform) / SAMPLE_RATE)
    assert sum(mark.sound == "ʃ" for mark in spoken.marks) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("les amis", "lez amˈi"),
        ("les héros", "le eʁˈo"),
        ("l'homme", "lˈɔm"),
        ("l’e\u0301te\u0301", "letˈe"),  # typed on a Mac: another apostrophe, accents apart
        ("six heures", "sˈiz ˈœʁ"),
        ("dix minutes", "dˈi minˈyt"),
        ("est-ce que", "ɛs kə"),
        ("huit oiseaux", "yˈit wazˈo"),
        ("deux pneus", "dˈø pnˈø"),
        ("El Niño", "ˈɛl ninˈo"),
        ("ŁÓDŹ", "ˈɔd"),
    ],
)
def test_french_is_linked_and_stressed(text: str, said: str) -> None:
    assert french.symbols_of(text) == said


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        pytest.param("Mucho, ¿no?", "es", "mˈuʧo, nˈo?", marks=needs_espeak),
        pytest.param("ciao, gente!", "it", "ʧˈao, ʤˈɛnte!", marks=needs_espeak),
        pytest.param("bom dia.", "pt", "bˈoŋ ʤˈiæ.", marks=needs_espeak),
        ("Church, judge.", "en", "ʧˈɜɹʧ, ʤˈʌʤ."),
    ],
)
def test_punctuation_stays_and_affricates_are_one_symbol(text: str, language: str, said: str) -> None:
    assert kokoro.symbols_of(text, language) == said


def test_a_voice_reads_no_other_language() -> None:
    for voice, language in (("ff_siwis", "en"), ("af_heart", "fr"), ("nobody", "fr"), ("ff_siwis", "xx")):
        with pytest.raises(ValueError, match=f"voice must be one of .* for '{language}', got '{voice}'"):
            Kokoro().speak("Oui", voice=voice, language=language, speed=1.0)
    assert Kokoro().voices("xx") == []


def test_what_is_missing_is_said_for_each_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "program", lambda: None)
    missing = {language: Kokoro().status(language) for language in Kokoro.languages}
    assert {language for language, notice in missing.items() if notice} == {"es", "it", "pt"}
    assert {notice.key for notice in missing.values() if notice} == {"EspeakMissing"}
    monkeypatch.setattr(files, "found", lambda: None)
    notice = Kokoro().status("fr")
    assert notice is not None and "92" in notice.text("en") and "92" in notice.text("fr")
    assert not any(voice.is_ready for voice in Kokoro().voices("fr"))
