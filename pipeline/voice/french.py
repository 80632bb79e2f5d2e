"""French for Kokoro: spelling to sounds by the rules of draft/pronounce.py, with links between words and stress.

Kokoro learnt from eSpeak's way of writing sounds, which is followed here: a linking consonant ends the first word, the
last full vowel of a word with a meaning of its own is stressed, and there is no ɥ. Runs no program.
"""

import functools
import itertools
import re
import unicodedata

from pipeline.draft.pronounce import ASPIRATED, LIAISON, C, V, french_word

VOWELS = "aeiouyøœɔɛɑ"  # and the nasal ones, which begin with these; a schwa takes no stress
WEAK = """
    le la les l un une des de du d j je tu il elle on nous vous ils elles me m te t se s ce c cet cette ces que qu qui
    et ou mais à au aux en y dans sur sous par pour avec sans chez mon ton son ma ta sa mes tes ses notre votre nos vos
    leur leurs ne n est es sont a ont ai as si comme plus très car lui jusqu lorsqu puisqu quelqu est-ce
"""  # words without stress
BEFORE_CONSONANT = {"six": "si", "dix": "di", "huit": "yi"}  # their last consonant is heard alone or before a vowel
BEFORE_VOWEL = {"six": "siz", "dix": "diz"}
WHOLE = {"est-ce": "ɛs", "parce": "paʁs"}  # whose parts would be said otherwise
WORD = re.compile(rf"est-ce|[{V}{C}]+'?")


def symbols_of(text: str) -> str:
    """French words, without punctuation, as Kokoro reads them; what French does not write is left out."""
    text = unicodedata.normalize("NFC", text).lower().replace("’", "'").replace("œ", "oe").replace("æ", "e")
    text = "".join(letter if letter in V + C else _plain(letter) for letter in text)
    said = ""
    for word, following in itertools.pairwise([*WORD.findall(text), ""]):
        stem = word.removesuffix("'")
        vowel_follows = _begins_with_vowel(following)
        if stem in WHOLE:
            sounds = WHOLE[stem]
        elif stem in BEFORE_VOWEL and vowel_follows:
            sounds = BEFORE_VOWEL[stem]
        elif stem in BEFORE_CONSONANT and following and not vowel_follows:
            sounds = BEFORE_CONSONANT[stem]
        else:
            sounds = _closed("".join(french_word(stem))).replace("ɥ", "y")
        said += sounds if stem in _weak() or word != stem else _stressed(sounds)
        if vowel_follows and word in LIAISON and word not in BEFORE_VOWEL:
            said += LIAISON[word]
        said += "" if word != stem else " "  # l'ami is one word
    return said.strip()


@functools.cache
def _weak() -> frozenset[str]:
    return frozenset(WEAK.split())


def _plain(letter: str) -> str:
    """A letter without its accent: ñ, ã."""
    return unicodedata.normalize("NFD", letter)[0]


def _begins_with_vowel(word: str) -> bool:
    """Whether what comes before is linked to it."""
    if word.startswith("h"):
        return not word.startswith(ASPIRATED)
    return word[:1] in [*V] and word.removesuffix("'") not in ASPIRATED


def _closed(sounds: str) -> str:
    """With o and eu closed where they end a word or stand before z: trop, chose, deux, heureuse."""
    return re.sub(r"[œɔ](?=$|z)", lambda found: {"œ": "ø", "ɔ": "o"}[found[0]], sounds)


def _stressed(sounds: str) -> str:
    """With the mark before the last full vowel."""
    last = max((place for place, sound in enumerate(sounds) if sound in VOWELS), default=None)
    return sounds if last is None else f"{sounds[:last]}ˈ{sounds[last:]}"
