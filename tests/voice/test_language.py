"""Short texts are told apart."""

from collections import Counter

import pytest

from pipeline.voice.language import detect_language
from tests.voice.sentences import LISTED, SENTENCES

NATURAL = ["en", "fr", "es", "it", "pt"]
OTHERS = "de nl pl ca gl eu oc ro sv da no fi et lt lv sk sl cs hr hu af eo ru el ja zh ar vi"
MANY = [*NATURAL, *OTHERS.split()]


def test_every_short_sentence_is_told_among_the_languages_of_natural_voices():
    told = [(language, detect_language(text, NATURAL)) for language, text in LISTED if language in NATURAL]
    assert len(told) == 100 and all(language == found for language, found in told)


def test_short_sentences_are_told_among_many_languages():
    right = Counter(language for language, text in LISTED if detect_language(text, MANY) == language)
    assert all(right[language] >= 19 for language in SENTENCES), right  # of 20 each


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Bonjour, je m'appelle Grace.", "fr"),
        ("Hello", "en"),
        ("Merci", "fr"),
        ("Gracias!", "es"),
        ("Grace", "en"),
        ("Tremblay", "fr"),
        ("BONJOUR TOUT LE MONDE", "fr"),
        ("Привет, как дела?", "ru"),
        ("你好，世界", "zh"),
        ("こんにちは、元気ですか", "ja"),
        ("See https://fr.wikipedia.org/wiki/Paris now please", "en"),
        ("Hello there. Привет 漢字 my friend.", "en"),
    ],
)
def test_what_people_type_is_told(text, language):
    assert detect_language(text, MANY) == language


@pytest.mark.parametrize("text", ["", "123", "😀", "…", "\ud800"])
def test_without_letters_the_first_language_is_taken(text):
    assert detect_language(text, ["it", "en"]) == "it"
