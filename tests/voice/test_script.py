"""A typed script becomes sentences, turns and pauses; no word is lost."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ScriptEmpty, TextTooLong
from pipeline.request import MAX_TEXT_LENGTH
from pipeline.voice.script import (
    MAX_SENTENCE,
    PARAGRAPH_PAUSE,
    SENTENCE_PAUSE,
    TURN_PAUSE,
    clean,
    labels_read,
    left_out,
    read_script,
    turns,
)

AMONG = ["en", "fr", "es", "it", "pt"]


def written(script: str, language: str | None = None) -> list[str]:
    """What is spoken at once, as it was typed."""
    return [sentence.written for sentence in read_script(script, language, AMONG)]


def test_speakers_change_at_their_letters_in_either_typography():
    script = "Bonjour.\nA: Un.\nB : Deux.\nEncore deux.\n**B:** Trois.\nA\u202f: Quatre.\nA："
    said = [(sentence.speaker, sentence.written) for sentence in read_script(script, "fr", AMONG)]
    expected = [(0, "Bonjour."), (0, "Un."), (1, "Deux."), (1, "Encore deux."), (1, "Trois."), (0, "Quatre.")]
    assert said == expected


def test_what_looks_like_a_speaker_and_is_none_is_named():
    script = "A: Hello.\nb: Hi.\nC: Me too.\nc: And so on.\nB: Good.\nNote: nothing."
    assert labels_read(script) == ["b:", "C:", "c:"]
    assert labels_read("It is 12:30.\nA: Yes.\nx:y") == []


def test_short_forms_initials_and_numbers_end_no_sentence():
    assert len(written("Dr. Smith met J. K. Rowling at 3.5 km from the U.S. Capitol, e.g. there.")) == 1
    assert written("M. Roy est là. Mme Côté aussi, p. ex. ici.") == ["M. Roy est là.", "Mme Côté aussi, p. ex. ici."]
    assert len(written("Il a couru 45 min. C'était long, etc. Puis il est parti.", "fr")) == 3
    assert written("« Oui. » Non… Vraiment?! Ah!") == ["« Oui. »", "Non…", "Vraiment?!", "Ah!"]
    assert written("这是一个句子。这是第二个！第三个？", "zh") == ["这是一个句子。", "这是第二个！", "第三个？"]


def test_pauses_tell_sentences_paragraphs_and_turns_apart():
    script = "One here. Two here.\n\nThree here.\nB: Four here."
    pauses = [sentence.pause for sentence in read_script(script, "en", AMONG)]
    assert pauses[:3] == [SENTENCE_PAUSE, PARAGRAPH_PAUSE, TURN_PAUSE]
    assert TURN_PAUSE < SENTENCE_PAUSE < PARAGRAPH_PAUSE


def test_a_wrapped_line_goes_on_and_a_new_line_does_not():
    assert written("This is a line\nthat goes on.\nThis is new\nAnd this") == [
        "This is a line that goes on.",
        "This is new",
        "And this",
    ]


def test_each_speaker_has_a_language_of_their_own_and_a_short_answer_the_scripts():
    script = "A: Bonjour à tous, comment allez-vous ce matin?\nB: I am very well this morning, thank you.\nB: OK"
    assert [sentence.language for sentence in read_script(script, None, AMONG)] == ["fr", "en", "en"]
    script = "A: Good morning, how are you today?\nB: Non."
    assert {sentence.language for sentence in read_script(script, None, AMONG)} == {"en"}


def test_letters_with_a_typeface_of_their_own_are_read_as_letters():
    (sentence,) = read_script("𝐁𝐨𝐧𝐣𝐨𝐮𝐫 １２ Ａmis", "fr", AMONG)
    assert (sentence.written, sentence.spoken) == ("Bonjour 12 Amis", "Bonjour douze Amis")


def test_words_in_another_alphabet_are_known_to_be_left_out():
    (sentence,) = read_script("Bonjour 漢字 à Привет tous", "fr", AMONG)
    assert left_out(sentence) == ["漢字", "Привет"] and sentence.spoken == "Bonjour à tous"
    assert [left_out(sentence) for sentence in read_script("Bonjour. Привет 漢字!", "fr", AMONG)] == [
        [],
        ["Привет", "漢字"],
    ]
    (sentence,) = read_script("Привет 漢字", "ru", AMONG)
    assert left_out(sentence) == []


@pytest.mark.parametrize("script", ["", " \n\t", "😀", "...", "\u200b\u202e", "A:", "A:\nB:\n", "漢字"])
def test_a_script_without_a_word_is_refused(script):
    with pytest.raises(ScriptEmpty):
        read_script(script, "fr", AMONG)


def test_a_script_that_is_too_long_is_refused():
    with pytest.raises(TextTooLong):
        read_script("a" * (MAX_TEXT_LENGTH + 1), None, AMONG)


LONG = {
    "one word": "a" * MAX_TEXT_LENGTH,
    "digits": "1" * MAX_TEXT_LENGTH,
    "numbers": "1 " * (MAX_TEXT_LENGTH // 2),
    "points": "." * (MAX_TEXT_LENGTH - 1) + "a",
    "initials": "a. " * (MAX_TEXT_LENGTH // 3),
    "turns": "A:a\n" * (MAX_TEXT_LENGTH // 4),
    "addresses": "a@b.c" * (MAX_TEXT_LENGTH // 5),
    "marks on one letter": "a" + "\u0301" * (MAX_TEXT_LENGTH - 1),
}


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("language", ["fr", "en"])
def test_no_hostile_text_takes_long(kind, language):
    started = time.perf_counter()
    found = read_script(LONG[kind], language, AMONG)
    assert time.perf_counter() - started < 10  # 0.1 to 1.5 s on two busy cores; quadratic ones took 13 s and more
    assert max(len(sentence.spoken) for sentence in found) <= MAX_SENTENCE


LETTERS = "abcéàçñß AB.,:;!?«»\n\t0123456789-'’…()\u202f漢Пא😀\u200d\ud800"
TEXT = st.one_of(st.text(max_size=300), st.text(alphabet=LETTERS, max_size=300))


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_every_letter_typed_is_in_a_sentence_in_order(script):
    try:
        found = read_script(script, "de", AMONG)
    except ScriptEmpty:
        return
    typed = "".join("\n".join(parts) for _, parts in turns(clean(script)))
    spoken = "".join(sentence.written for sentence in found)
    assert re.sub(r"[\W_]", "", spoken) == re.sub(r"[\W_]", "", typed)
    assert all(len(sentence.spoken) <= MAX_SENTENCE and "\n" not in sentence.spoken for sentence in found)


@settings(max_examples=100, deadline=None)
@given(TEXT, st.sampled_from(AMONG))
def test_any_text_is_read_or_refused_in_words(script, language):
    try:
        found = read_script(script, language, AMONG)
    except ScriptEmpty:
        return
    assert any(sentence.has_words for sentence in found)
    assert all(sentence.has_words or left_out(sentence) for sentence in found)
    assert all(sentence.pause > 0 for sentence in found)
