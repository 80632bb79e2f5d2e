"""What is written so that it can be said: numbers, times, dates, money, units, short forms and addresses in words.

French is read out whole, since nothing that speaks it here reads more than words. English keeps to what hibari does
not read by itself; of other languages, eSpeak NG reads numbers, and only addresses are written out.
"""

import itertools
import re
import unicodedata

from pipeline.draft.pronounce import LARGEST_NUMBER, number_words

# num2words, the usual library for this, is LGPL; the table of the draft's own speller was here already.

ADDRESS = re.compile(r"(?:https?://|www\.)[^\s<>\"«»]+", re.IGNORECASE)
MAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
AT_AND_DOT = {  # as addresses are read
    "en": ("at", "dot"),
    "fr": ("arobase", "point"),
    "es": ("arroba", "punto"),
    "it": ("chiocciola", "punto"),
    "pt": ("arroba", "ponto"),
    "de": ("at", "Punkt"),
    "nl": ("apenstaartje", "punt"),
}
LATIN = frozenset(("en", "fr", "es", "it", "pt"))  # languages whose voices know no other letters
Found = re.Match[str]


def _words(text: str) -> list[str]:
    """The words of a table that is written as running text."""
    return text.split()


def read_out(text: str, language: str) -> str:
    """One clean line with everything in words that the voices of `language` would not read.

    Args:
        text: As it is written, on one line.
        language: ISO 639.

    Returns:
        Words and punctuation; without a letter or digit when there was nothing to say.
    """
    at, dot = AT_AND_DOT.get(language, ("@", "."))
    text = ADDRESS.sub(lambda found: _address(found[0], dot), text)
    text = MAIL.sub(lambda found: found[0].replace("@", f" {at} ").replace(".", f" {dot} "), text)
    text = "".join(_sign(letter) for letter in text).replace("⁄", "/")
    if language == "fr":
        text = _french(text)
    elif language == "en":
        text = _english(text)
    if language in LATIN:
        text = "".join(letter if not letter.isalpha() or is_latin(letter) else " " for letter in text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r" ([,.…])", r"\1", text)
    return re.sub(r"([,;:])[,;:]+", r"\1", text).strip(" ,;:")


def is_latin(letter: str) -> bool:
    """Is it a letter of the Latin alphabet, accents and all?"""
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN ") or letter in "ªº"


def _address(written: str, dot: str) -> str:
    """The name of the place in an address of the web; the rest of it nobody reads aloud."""
    host = re.sub(r"^(?:https?://)?(?:www\.)?", "", written, flags=re.IGNORECASE)
    host, end = re.split(r"[/?#:]", host, maxsplit=1)[0], written[-1] if written[-1] in ".,!?" else ""
    return host.rstrip(".,!?").replace(".", f" {dot} ") + end


SIGNS = {"—": ", ", "–": "–", "•": ", ", "·": ", ", "→": ", ", "|": ", ", "_": " ", "*": " ", "\\": " ", "`": " "}
SIGNS |= dict.fromkeys("[]{}<>^~©®™", " ") | {"’": "'", "‘": "'", "ʼ": "'", "´": "'", "−": "-", "‑": "-", "\u00ad": ""}
SIGNS |= {"(": ", ", ")": ", "} | dict.fromkeys('«»“”„"\u202f\xa0', " ")


def _sign(letter: str) -> str:
    """A character as it may stay: pictures and what nobody says become a space."""
    if letter in SIGNS or letter in "°²³½¼¾":
        return SIGNS.get(letter, letter)
    kind = unicodedata.category(letter)
    if kind in ("No", "Nl"):  # ①, ⅓
        return unicodedata.normalize("NFKC", letter)
    return " " if kind in ("So", "Sk", "Cn", "Co", "Cs", "Cc") else letter


# --- English ----------------------------------------------------------------------------------------------------------


def _english(text: str) -> str:
    """What hibari would misread."""
    text = _without_shouting(text)
    text = text.replace("ï", "i").replace("ë", "e")  # naïve, Zoë: its lists spell them without
    text = re.sub(r"\b(\d{1,2})\s?h\s?([0-5]\d)\b", r"\1:\2", text)  # 14h30
    text = re.sub(r"\bNos?\. ?(?=\d)", "number ", text)
    for sign, one, many in (("$", "dollar", "dollars"), ("€", "euro", "euros"), ("£", "pound", "pounds")):
        # a sum written as in French: 5 $
        text = re.sub(rf"(?<![\d.,])1\s?{re.escape(sign)}(?!\d)", f"1 {one}", text)
        text = re.sub(rf"(\d)\s?{re.escape(sign)}(?!\d)", rf"\1 {many}", text)
    return text


def _without_shouting(text: str) -> str:
    """The text in small letters where all of it is in capitals, which would be spelt."""
    words = re.findall(r"[^\W\d_]+", text)
    is_running = re.search(r"\w+[ '’]\w+[ '’]\w+", text) or any(len(word) > 5 for word in words)
    return text.lower() if is_running and all(word.isupper() for word in words) else text


# --- French -----------------------------------------------------------------------------------------------------------

MONTHS = _words("janvier février mars avril mai juin juillet août septembre octobre novembre décembre")
MONEY = {"$": ("dollar", "dollars"), "€": ("euro", "euros"), "£": ("livre", "livres"), "¥": ("yen", "yens")}
FEMININE = frozenset(
    f"{noun}{ending}"
    for noun in _words("""
        livre heure minute seconde tonne personne année semaine journée femme fille chose page ligne place étape
        question
        image photo voix table chaise porte maison voiture tasse boîte bouteille lettre ville rue chambre pièce nuit
    """)
    for ending in ("", "s")
)
UNITS = {
    "km/h": "kilomètres à l'heure", "km²": "kilomètres carrés", "m²": "mètres carrés", "m³": "mètres cubes",
    "m/s": "mètres par seconde", "km": "kilomètres", "cm": "centimètres", "mm": "millimètres", "m": "mètres",
    "kg": "kilogrammes", "mg": "milligrammes", "g": "grammes", "t": "tonnes", "ml": "millilitres", "mL": "millilitres",
    "cl": "centilitres", "l": "litres", "L": "litres", "Ko": "kilooctets", "ko": "kilooctets", "Mo": "mégaoctets",
    "Go": "gigaoctets", "To": "téraoctets", "kWh": "kilowattheures", "kW": "kilowatts", "W": "watts", "V": "volts",
    "kHz": "kilohertz", "MHz": "mégahertz", "GHz": "gigahertz", "Hz": "hertz", "dB": "décibels", "min": "minutes",
    "s": "secondes", "ms": "millisecondes", "°C": "degrés Celsius", "°F": "degrés Fahrenheit", "°": "degrés",
    "%": "pour cent", "¢": "sous", "px": "pixels",
}  # fmt: skip
SHORT_FORMS = {  # with their point where they have one; matched as whole words, capitals as written
    "Mme": "madame", "Mmes": "mesdames", "Mlle": "mademoiselle", "Mlles": "mesdemoiselles", "MM.": "messieurs",
    "Dr": "docteur", "Dre": "docteure", "Dr.": "docteur", "Pr": "professeur", "Pr.": "professeur", "Mgr": "monseigneur",
    "St": "saint", "Ste": "sainte", "p. ex.": "par exemple", "p.ex.": "par exemple", "c.-à-d.": "c'est-à-dire",
    "c-à-d": "c'est-à-dire", "etc.": "et cétéra", "etc": "et cétéra", "boul.": "boulevard", "bd": "boulevard",
    "tél.": "téléphone", "Tél.": "téléphone", "app.": "appartement",
    "vs": "versus", "vs.": "versus", "env.": "environ", "max.": "maximum", "min.": "minimum",
    "svp": "s'il vous plaît", "SVP": "s'il vous plaît", "stp": "s'il te plaît", "RDV": "rendez-vous",
    "P.-S.": "post-scriptum", "cf.": "confer", "art.": "article", "chap.": "chapitre", "pp.": "pages", "vol.": "volume",
    "ok": "okay", "OK": "okay",
}  # fmt: skip
BEFORE_NAME = {"M.": "monsieur", "M": "monsieur", "Me": "maître", "av.": "avenue"}  # only before a capital
BEFORE_NUMBER = {"n°": "numéro", "nº": "numéro", "no": "numéro", "No": "numéro", "N°": "numéro", "Nº": "numéro",
                 "#": "numéro", "p.": "page", "§": "paragraphe", "nos": "numéros", "≈": "environ"}  # fmt: skip
LETTERS = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        _words("a bé cé dé e effe gé ache i ji ka elle emme enne o pé ku erre esse té u vé double-vé ixe i-grec zède"),
        strict=True,
    )
)
SAID_AS_WORDS = frozenset(_words("ONU OTAN NASA UNESCO OVNI SIDA UQAM CÉGEP CEGEP ALENA OPEP SMIC RADAR LASER CHUM"))
ROMAN = re.compile(r"(?=[IVX]|[IVXLC]{2})(C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
NUMBERED = _words("""
    Louis Henri Charles François Napoléon Philippe Jean Jean-Paul Élisabeth Benoît Pie Paul Guillaume George Georges
    Édouard Richard Léopold Baudouin chapitre tome acte scène article partie volume livre niveau phase type
    Chapitre Tome Acte Scène Article Partie Volume Livre Niveau Phase Type
""")  # what a Roman number follows
FRACTIONS = {"1/2": "un demi", "1/3": "un tiers", "2/3": "deux tiers", "1/4": "un quart", "3/4": "trois quarts"}
FRACTIONS |= {"½": "un demi", "¼": "un quart", "¾": "trois quarts"}
OPERATORS = {"+": "plus", "=": "égale", "×": "fois", "÷": "divisé par", "&": "et", "@": "arobase", "±": "plus ou moins"}
OPERATORS |= {"²": "au carré", "³": "au cube"}
OPERATORS |= {"€": "euros", "$": "dollars", "£": "livres", "%": "pour cent", "#": "mot-clic ", "/": " ", "°": "degrés"}
NUMBER = r"(?<!\d)\d+(?:,\d+)?"


def _french(text: str) -> str:
    """French in words alone: no digit, sign or short form is left."""
    text = _without_shouting(text)
    for written, said in FRACTIONS.items():
        text = re.sub(rf"(?<![\d/,]){re.escape(written)}(?![\d/])", said, text)
    # before thousands are joined, as in 418 555-0199
    text = re.sub(
        r"(?<![\d-])\+?(?:\d[\s.-])?(\d{3}[\s,]*[\s.-]\d{3}[\s.-]\d{4}|0\d(?:[\s.-]\d\d){4})(?!\d)", _telephone, text
    )
    text = re.sub(r"(?<=\d)[  ](?=\d{3}(?!\d))", "", text)  # 12 000
    text = re.sub(r"(?<![\d.])(\d{1,3})((?:\.\d{3})+)(?![\d.])", lambda found: found[0].replace(".", ""), text)
    text = re.sub(r"\b(\d{4})-(\d{2})-(\d{2})\b", lambda found: _date(found[3], found[2], found[1], found[0]), text)
    text = re.sub(
        r"\b(\d{1,2})[/.](\d{1,2})[/.](\d{4})\b", lambda found: _date(found[1], found[2], found[3], found[0]), text
    )
    text = re.sub(rf"\b1 (?={'|'.join(MONTHS)}\b)", "premier ", text)
    text = re.sub(r"\b(\d{1,2})(?:\s?h\s?|:)([0-5]\d)?(?![\w:])", _time, text)
    text = re.sub(rf"([$€£¥])\s?({NUMBER})", r"\2 \1", text)  # $5
    text = re.sub(r"(?<=[$€£¥%])\s?/\s?(?=[^\W\d_])", " par ", text)  # 50 $/mois
    text = re.sub(rf"({NUMBER})\s?(M|G|millions?|milliards?)\s?([$€£¥])", _large_money, text)
    text = re.sub(r"(?<!\d)(\d+)(?:,(\d\d))?\s?([$€£¥])", _money, text)
    text = re.sub(r"\b1(?:er|ᵉʳ)\b", "premier", text)
    text = re.sub(r"\b1(?:re|ère|ʳᵉ)\b", "première", text)
    text = re.sub(r"\b2(?:nd|d)(e?)\b", r"second\1", text)
    text = re.sub(r"\b(\d+)(?:e|ᵉ|è|ème|eme|ième)(s?)\b", lambda found: _ordinal(int(found[1][:12])) + found[2], text)
    text = re.sub(rf"\b{ROMAN.pattern}(?:e|ème)\b", _roman_ordinal, text)
    text = re.sub(r"\bIer\b", "premier", text)
    text = re.sub(rf"\b({'|'.join(NUMBERED)}) {ROMAN.pattern}\b", _roman, text)
    units = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
    text = re.sub(rf"(?<=\d)\s?({units})(?![\w²³])", lambda found: f" {UNITS[found[1]]}", text)
    for written, said in BEFORE_NUMBER.items():
        text = re.sub(rf"(?<!\w){re.escape(written)}\s?(?=\d)", f"{said} ", text)
    for written, said in BEFORE_NAME.items():
        text = re.sub(rf"(?<!\w){re.escape(written)} (?=[A-ZÀ-Ý])", f"{said} ", text)
    text = re.sub(r"\b(S(?:ain)?te?)-(?=[A-ZÀ-Ý])", lambda found: f"{SHORT_FORMS.get(found[1], found[1])} ", text)
    for written, said in SHORT_FORMS.items():
        text = re.sub(rf"(?<![\w-]){re.escape(written)}(?![\w-])", said, text)
    text = re.sub(r"(\d)\s?[-–]\s?(?=\d)", r"\1 à ", text)
    text = re.sub(r"(^|\s)-(?=\d)", r"\1moins ", text)
    text = re.sub(r"(\d)\s?/\s?(?=\d)", r"\1 sur ", text)
    text = re.sub(r"(\d)\s?[*x]\s?(?=\d)", r"\1 fois ", text)
    text = re.sub(r"(?<![\d,.])(\d*1) (\w+)", lambda found: f"{_count(found[1], found[2])} {found[2]}", text)
    text = re.sub(r"\d+(?:,\d+)?(?:\.\d+)*", _number, text)
    text = re.sub(r"\b[A-ZÀ-Ý]{2,5}\b", _acronym, text)
    text = re.sub(r"\b([A-Z])\.(?= [A-ZÀ-Ý])", r"\1", text)  # an initial
    text = re.sub(r"\b[B-DF-HJ-NP-TV-XZ]\b(?!')", lambda found: LETTERS[found[0]], text)
    for sign, said in OPERATORS.items():
        text = text.replace(sign, f" {said} ")
    return text


def _whole(digits: str) -> str:
    """Digits in words, one by one where they are no quantity."""
    if (len(digits) > 1 and digits[0] == "0") or len(digits) >= len(str(LARGEST_NUMBER)):
        return " ".join(number_words(int(digit), "fr") for digit in digits)
    return number_words(int(digits), "fr")


def _number(found: Found) -> str:
    """A number with its comma, or a version with its points."""
    parts = re.split(r"([,.])", found[0])
    words = [{",": "virgule", ".": "point"}.get(part) or _decimals(part) for part in parts]
    before = " " if found.start() and not found.string[found.start() - 1].isspace() else ""
    after = " " if found.string[found.end() : found.end() + 1].isalpha() else ""
    return before + " ".join(words) + after


def _decimals(digits: str) -> str:
    """Digits after a comma are read as a number up to three of them, with their zeros first."""
    zeros = len(digits) - len(digits.lstrip("0")) if len(digits) > 1 else 0
    rest = digits[zeros:]
    return " ".join([*["zéro"] * zeros, *([_whole(rest)] if rest else [])])


def _count(digits: str, noun: str) -> str:
    """A whole number before a noun, une heure."""
    words = _whole(digits)
    return f"{words}e" if noun in FEMININE and re.search(r"\bun$", words) else words


def _date(day: str, month: str, year: str, written: str) -> str:
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return written
    first = "premier" if int(day) == 1 else _whole(str(int(day)))
    return f"{first} {MONTHS[int(month) - 1]} {_whole(year)}"


def _time(found: Found) -> str:
    hours, minutes = int(found[1]), found[2]
    if hours > 24 or (":" in found[0] and minutes is None):
        return found[0]
    said = f"{_count(str(hours), 'heure')} heure{'s' if hours > 1 else ''}"
    return said if minutes in (None, "00") else f"{said} {_count(str(int(minutes)), 'minute')}"


def _telephone(found: Found) -> str:
    """Groups with a short pause between; three digits one by one, pairs as numbers."""
    groups = []
    for group in re.findall(r"\d+", found[1]):
        pairs = [group[:2], group[2:]] if len(group) == 4 else list(group) if len(group) == 3 else [group]
        groups.append(" ".join(_whole(pair) for pair in pairs))
    return ", ".join(groups)


def _money(found: Found) -> str:
    one, many = MONEY[found[3]]
    noun = one if found[1] in ("0", "1") else many
    words = _count(found[1], noun)
    said = f"{words} {_link(noun) if words.endswith(('million', 'milliard')) else ''}{noun}"
    return said if found[2] in (None, "00") else f"{said} {_whole(str(int(found[2])))}"


def _large_money(found: Found) -> str:
    unit = {"M": "millions", "G": "milliards"}.get(found[2], found[2])
    if found[1] in ("0", "1"):
        unit = unit.removesuffix("s")
    _, many = MONEY[found[3]]
    return f"{found[1]} {unit} {_link(many)}{many}"


def _link(noun: str) -> str:
    return "d'" if noun.startswith("euro") else "de "


def _ordinal(value: int) -> str:
    """The ordinal of a whole number from 2 on: deuxième, vingt et unième."""
    words = number_words(value, "fr")
    for ending, changed in (("cinq", "cinquième"), ("neuf", "neuvième")):
        if words.endswith(ending):
            return words.removesuffix(ending) + changed
    return words.removesuffix("e") + "ième"


def _roman_value(written: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}[letter] for letter in written]
    return sum(-value if value < max(values[place:]) else value for place, value in enumerate(values))


def _roman_ordinal(found: Found) -> str:
    return _ordinal(_roman_value("".join(found.groups())))


def _roman(found: Found) -> str:
    return f"{found[1]} {number_words(_roman_value(''.join(found.groups()[1:])), 'fr')}"


def _acronym(found: Found) -> str:
    """Spelt by the names of its letters, unless it is said as a word."""
    written = found[0]
    if written in SAID_AS_WORDS or any(letter not in LETTERS for letter in written):
        return written.lower()
    vowels = [letter in "AEIOUY" for letter in written]
    if len(written) > 3 and any(vowels) and all(a != b for a, b in itertools.pairwise(vowels)):
        return written.lower()  # a consonant, a vowel, a consonant: it reads like a word
    return " ".join(LETTERS[letter] for letter in written)
