"""A typed script as sentences to speak: who says each, how it is read, and how long the pause after it is.

Speaks nothing; numbers and signs are put into words by readout.py.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.errors import ScriptEmpty, TextTooLong
from pipeline.request import MAX_TEXT_LENGTH
from pipeline.voice.language import detect_language
from pipeline.voice.readout import LATIN, is_latin, read_out

MAX_SENTENCE = 240  # characters spoken at once: two lines of print. At 1.36 symbols a character at most, as measured on
# tests/voice/sentences.py in five languages, one run of Kokoro (510 symbols) holds it
TOO_SHORT_TO_TELL = 24  # letters of one speaker, below which they are taken to speak the script's language

# Seconds of silence at speed 1. Pauses in speech are brief (under 0.2 s), medium (0.2 to 1 s) or long: the first stand
# inside a sentence, the second end one, the third come only in speech that is not read. Source: Campione and Véronis
# (2002), "A large-scale multilingual study of silent pause duration", Speech Prosody. Within those, chosen here.
CLAUSE_PAUSE = 0.2  # at a comma or colon where a long sentence is cut; inside a sentence the voice makes its own
SENTENCE_PAUSE = 0.45
PARAGRAPH_PAUSE = 0.9
TURN_PAUSE = 0.35  # from one speaker to the other: shorter than one's own, people answer quickly

SPEAKER = re.compile(r"[*_]{0,2}([AB])[*_]{0,2}\s*[:：][*_]{0,2}(?=\s|$)\s*(.*)")
LABEL = re.compile(r"[a-zC-Z]\s*[:：](?=\s|$)")  # what may have been meant as one
ENDS = ".!?…。！？؟।‼⁇⁈⁉"
# A sentence ends at these signs and what closes with them, before a space; where no spaces are written, at once.
END = re.compile(
    rf"(?<![{ENDS}])(?:[{ENDS}]+(?:[\"'”’)\]]|[ \u00a0\u202f]?»)*|[。！？][」』）]*)(?=\s|$|(?<=[。！？」』）]))"
)
LONGEST_WORD = 30  # characters before a point that are looked at: no short form is longer
SHORT_FORMS = frozenset(
    form
    for forms in (
        "m mm mme mlle dr dre pr me mgr st ste mr mrs ms prof sr sra srta ing dott sig av boul bd tél",
        "app apt art bur chap fig no nos vs cf ex p pp approx gen gov sen capt sgt str nr bzw",
    )
    for form in forms.split()
)  # a point after these ends no sentence; units and "etc." are not here, which often end one
CUTS = (r"[;:—–]", r"[,،、，]", r"\s")  # where a sentence that is too long is cut, the best first


@dataclass(frozen=True)
class Sentence:
    """What is spoken at once.

    Args:
        written: As it was typed, for captions.
        spoken: The same in words, at most MAX_SENTENCE characters; none where all of it is left out.
        speaker: 0 or 1.
        language: ISO 639.
        pause: Seconds of silence after it, at speed 1.
    """

    written: str
    spoken: str
    speaker: int
    language: str
    pause: float

    @property
    def has_words(self) -> bool:
        """Whether there is anything to be said."""
        return any(map(str.isalnum, self.spoken))


def clean(script: str) -> str:
    """The script without what is invisible, its letters plain and composed and its lines ended in one way.

    What joins letters in Persian and in the scripts of India stays; marks that turn the direction of writing go.
    """
    text = re.sub(r"\r\n?|[\u0085\u2028\u2029\x0b\x0c]", "\n", script)
    text = "".join(_plain(letter) for letter in unicodedata.normalize("NFC", text))
    kept = (" " if letter == "\t" else letter for letter in text if letter in "\n\t\u200c\u200d" or is_seen(letter))
    return "".join(kept)


def _plain(letter: str) -> str:
    """A letter or digit without the typeface that some have of their own, as 𝐁 and Ｂ have."""
    is_styled = letter.isalnum() and unicodedata.decomposition(letter).startswith(("<font>", "<wide>"))
    return unicodedata.normalize("NFKC", letter) if is_styled else letter


def is_seen(letter: str) -> bool:
    """Is it neither a control, a format mark, half of a pair nor a character nobody has defined?"""
    return unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Cn")


def turns(text: str) -> Iterator[tuple[int, list[str]]]:
    """Who speaks, and their paragraphs in order: a line that begins with `A:` or `B:` changes the speaker."""
    speaker, lines = 0, list[str]()
    for line in text.split("\n"):
        if found := SPEAKER.match(line.strip()):
            if any(line.strip() for line in lines):
                yield speaker, _paragraphs(lines)
            speaker, lines = "AB".index(found[1]), [found[2]]
        else:
            lines.append(line)
    if any(line.strip() for line in lines):
        yield speaker, _paragraphs(lines)


def labels_read(script: str) -> list[str]:
    """What begins a line like a speaker's letter and is none, "a:" or "C:"; it is read aloud."""
    found = (LABEL.match(line.strip()) for line in clean(script).split("\n"))
    return list(dict.fromkeys(label[0].strip() for label in found if label))


def num_speakers(script: str) -> int:
    """How many speak in a script: 1, or 2 where both have something to say; of one too long, in what could be read."""
    speakers = {
        who for who, paragraphs in turns(clean(script[:MAX_TEXT_LENGTH])) if any(map(str.isalnum, "".join(paragraphs)))
    }
    return max(len(speakers), 1)


def _paragraphs(lines: list[str]) -> list[str]:
    """Paragraphs, parted by blank lines; a line that goes on in small letters was only wrapped."""
    text = "\n".join(line.strip() for line in lines)
    text = re.sub(rf"(?<![{ENDS}:;\n])\n(?=[^\W\d_])", lambda found: _seam(found), text)
    return [part for part in re.split(r"\n{2,}", text) if part.strip()]


def _seam(found: re.Match[str]) -> str:
    """A space where the next line begins with a small letter."""
    return " " if found.string[found.end()].islower() else "\n"


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, as they are written; every character but the spaces between them is in one."""
    found, start = [], 0
    for line_end in [*(mark.start() for mark in re.finditer("\n", paragraph)), len(paragraph)]:
        for end in END.finditer(paragraph, start, line_end):
            if _is_end(paragraph, end, start):
                found.append(paragraph[start : end.end()])
                start = end.end()
        found.append(paragraph[start:line_end])
        start = line_end
    return [sentence.strip() for sentence in found if sentence.strip()]


def _is_end(text: str, end: re.Match[str], start: int) -> bool:
    """Does a sentence end here, and not a short form, an initial or a number of order?"""
    following = text[end.end() :].lstrip(" ")[:1]
    if following.islower():
        return False
    if end[0] != ".":
        return True
    before = text[max(start, end.start() - LONGEST_WORD) : end.start()].split()[-1:] or [""]
    word = before[0].lstrip("(\"'“‘«¿¡")
    if word.casefold() in SHORT_FORMS and following not in ("", "\n"):
        return False
    is_initial = word.isupper() and bool(re.fullmatch(r"(?:\w\.)*\w", word))  # J., U.S.
    is_order = word.isdigit() and len(word) <= 2 and following.isalpha() and start == end.start() - len(word)
    return not (is_initial and following.isupper()) and not is_order


def pieces(written: str, language: str) -> list[tuple[str, str]]:
    """A sentence cut where it must be: its parts as written, and as they are read out.

    Cut at a colon or dash, else at a comma, else between words, else, in a word without end, anywhere.
    """
    if len(written) <= 4 * MAX_SENTENCE and len(spoken := read_out(written, language)) <= MAX_SENTENCE:
        return [(written, spoken)]
    for cut in CUTS:
        places = [found.end() for found in re.finditer(cut, written)]
        places = [place for place in places if written[:place].strip() and written[place:].strip()]
        if places:
            middle = min(places, key=lambda place: abs(place - len(written) / 2))
            break
    else:
        middle = len(written) // 2
    return pieces(written[:middle].strip(), language) + pieces(written[middle:].strip(), language)


def read_script(script: str, language: str | None, among: list[str]) -> list[Sentence]:
    """What is to be spoken.

    Args:
        script: Any text of at most MAX_TEXT_LENGTH characters.
        language: ISO 639; None to tell it by the text: each speaker's by their own lines, or by the whole where those
            are too few.
        among: Languages it may be in.

    Raises:
        TextTooLong: it is longer.
        ScriptEmpty: there is nothing in it to be read.
    """
    if len(script) > MAX_TEXT_LENGTH:
        raise TextTooLong(length=len(script), limit=MAX_TEXT_LENGTH)
    text = clean(script)
    said = list(turns(text))
    spoken_by = {speaker: "\n".join("\n".join(parts) for who, parts in said if who == speaker) for speaker in (0, 1)}
    languages = [language or _language_of(spoken_by[speaker], spoken_by, among) for speaker in (0, 1)]
    found: list[Sentence] = []
    for speaker, paragraphs in said:
        for paragraph in paragraphs:
            for written in sentences(paragraph):
                parts = [part for part in pieces(written, languages[speaker]) if any(map(str.isalnum, part[0]))]
                pauses = [CLAUSE_PAUSE] * (len(parts) - 1) + [SENTENCE_PAUSE]
                found += [
                    Sentence(*part, speaker, languages[speaker], pause)
                    for part, pause in zip(parts, pauses[-len(parts) :], strict=False)
                ]
            found[-1:] = [replace(last, pause=PARAGRAPH_PAUSE) for last in found[-1:]]
        found[-1:] = [replace(last, pause=TURN_PAUSE) for last in found[-1:]]
    if not any(sentence.has_words for sentence in found):
        raise ScriptEmpty(length=len(script))
    return found


def _language_of(own: str, spoken_by: dict[int, str], among: list[str]) -> str:
    """The language of one speaker's lines."""
    is_enough = sum(map(str.isalpha, own)) >= TOO_SHORT_TO_TELL
    return detect_language(own if is_enough else "\n".join(spoken_by.values()), among)


def left_out(sentence: Sentence) -> list[str]:
    """Words of a sentence in an alphabet that no voice of its language reads."""
    if sentence.language not in LATIN:
        return []
    words = re.findall(r"[^\W\d_]+", sentence.written)
    return [word for word in words if not any(map(is_latin, word))]
