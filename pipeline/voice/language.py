"""Which language a text is in: py3langid's letters for a sentence, a short list for a word or two. Offline."""

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

SHOWN = 2_000  # characters looked at: a page; more changes nothing
SHORT = 24  # letters: below, a language few people speak is more often a mistake than meant
COMMON = frozenset(
    language
    for languages in ("en fr es it pt de nl pl cs sv da no fi ro hu tr el", "ru uk bg ar he fa hi bn ta ur zh ja ko vi")
    for language in languages.split()
)
# What people type alone, which is too short to be told by its letters.
WORDS = {
    word: language
    for language, words in {
        "en": "hello hi hey yes no thanks thank you good morning goodbye bye ok okay welcome please sorry test testing",
        "fr": "bonjour salut oui merci bonsoir allô bienvenue pardon désolé adieu essai",
        "es": "hola sí gracias buenos días adiós bienvenido bienvenidos perdón prueba",
        "it": "ciao grazie buongiorno buonasera arrivederci benvenuti prego scusa prova",
        "pt": "olá oi sim obrigado obrigada tchau adeus desculpe bem-vindo teste",
        "de": "hallo ja nein danke guten tschüss willkommen bitte",
    }.items()
    for word in words.split()
}
FEW_WORDS = 2  # up to which the list above is asked first
UNACCENTED = frozenset(("en", "fr", "es", "it", "pt", "de"))  # a word alone, often a name, is in one of these
SAME = {"nb": "no", "nn": "no", "cmn": "zh"}  # codes that a list of voices has under another one


def detect_language(text: str, among: Sequence[str]) -> str:
    """The language of a text, out of those in `among`.

    All 160 sentences of 2 to 8 words in eight languages (tests/voice/sentences.py) are told, among the eight and among
    all 113 of eSpeak NG.

    Args:
        text: Any text.
        among: ISO 639 codes, at least one; the first one is taken for a text that has no letters to tell by.

    Source: adbar/py3langid 0.4.0; its model was trained on texts in 139 languages.
    """
    if not among:
        raise ValueError("among must name a language, got none")
    shown = unicodedata.normalize("NFC", text[:SHOWN])
    shown = re.sub(r"https?://\S+|www\.\S+|\S+@\S+", " ", shown)  # an address is in no language
    words = re.findall(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*", shown)
    if not words:
        return among[0]
    if len(words) <= FEW_WORDS:
        listed = {WORDS.get(word.casefold()) for word in words} - {None}
        if len(listed) == 1 and (found := str(*listed)) in among:
            return found
    words = _in_one_alphabet(words)
    candidates = set(among)
    if len(words) == 1 and words[0].isascii():
        candidates = candidates & UNACCENTED or candidates
    elif sum(map(len, words)) < SHORT:
        candidates = candidates & COMMON or candidates
    # In order of likelihood; equal ones, where no letters tell, in the order of `among`.
    ranked = [(SAME.get(language, language), score) for language, score in _identifier().rank(" ".join(words))]
    order = {language: -place for place, language in enumerate(among)}
    known = [(score, order[language], language) for language, score in ranked if language in candidates]
    return max(known)[2] if known else among[0]


def _in_one_alphabet(words: list[str]) -> list[str]:
    """The words in Latin letters, or the others, whichever are more: a foreign word or two tell nothing."""
    latin = [word for word in words if unicodedata.name(word[0], "").startswith("LATIN ")]
    others = [word for word in words if not unicodedata.name(word[0], "").startswith("LATIN ")]
    return latin if sum(map(len, latin)) >= sum(map(len, others)) else others


@functools.lru_cache(1)
def _identifier() -> Any:
    """py3langid's model of all its languages; asking it changes nothing in it."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
