"""Letters to sounds: what the lips need of French and English spelling."""

import pytest

from pipeline.draft import pronounce
from pipeline.draft.phonemes import CLASS_OF, classes_of

FRENCH_WORDS = """
    bonjour=bɔ̃ʒuʁ maison=mɛzɔ̃ femme=fam homme=ɔm enfant=ɑ̃fɑ̃ eau=o oiseau=wazo beaucoup=boku famille=famij
    ville=vil travail=tʁavaj soleil=sɔlɛj feuille=fœj grenouille=ɡʁənuj œil=œj question=kɛstjɔ̃ attention=atɑ̃sjɔ̃
    pain=pɛ̃ vin=vɛ̃ bien=bjɛ̃ loin=lwɛ̃ parfum=paʁfœ̃ album=albɔm temps=tɑ̃ printemps=pʁɛ̃tɑ̃ longtemps=lɔ̃tɑ̃
    champ=ʃɑ̃ gagner=ɡaɲe guerre=ɡɛʁ mangeait=mɑ̃ʒɛ garçon=ɡaʁsɔ̃ accent=aksɑ̃ souvent=suvɑ̃ parlent=paʁl
    moment=mɔmɑ̃ heureusement=œʁœzmɑ̃ récemment=ʁesamɑ̃ parler=paʁle hiver=ivɛʁ mer=mɛʁ chez=ʃe avec=avɛk blanc=blɑ̃
    sœur=sœʁ fils=fis août=ut six=sis deuxième=dœzjɛm huit=ɥit monsieur=məsjø samedi=samdi appartement=apaʁtəmɑ̃
    examen=ɛɡzamɛ̃ jouer=ʒwe voyage=vwajaʒ pays=pei cuisine=kɥizin musique=myzik photo=fɔtɔ neige=nɛʒ automne=otɔn
    bibliothèque=biblijɔtɛk magasiner=maɡazine dépanneur=depanœʁ souper=supe char=ʃaʁ blonde=blɔ̃d tuque=tyk
    poutine=putin chum=tʃɔm icitte=isit pantoute=pɑ̃tut hockey=ɔkɛ québec=kebɛk montréal=mɔ̃ʁeal cégep=seʒɛp
    bleuet=blœɛ courriel=kuʁjɛl
"""


@pytest.mark.parametrize("pair", FRENCH_WORDS.split())
def test_french_word_sounds_as_it_is_said(pair: str) -> None:
    word, said = pair.split("=")
    assert "".join(pronounce.french_word(word.replace("œ", "oe"))) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("les amis", "lezami"),
        ("les hiboux", "leibu"),
        ("un homme", "œ̃nɔm"),
        ("C'est l'été", "sɛlete"),
        ("J'ai 21 ans", "ʒɛvɛ̃teœ̃nɑ̃"),
        ("7h30", "sɛtœʁtʁɑ̃t"),
        ("80 %", "katʁvɛ̃puʁsɑ̃"),
    ],
)
def test_french_phrase_links_words_and_reads_numbers(text: str, said: str) -> None:
    assert "".join(sound for word in pronounce.french_sounds(text) for sound in word) == said


@pytest.mark.parametrize(
    ("value", "english", "french"),
    [
        (0, "zero", "zéro"),
        (21, "twenty one", "vingt et un"),
        (71, "seventy one", "soixante et onze"),
        (95, "ninety five", "quatre-vingt quinze"),
        (100, "one hundred", "cent"),
        (1_000, "one thousand", "mille"),
        (2_345, "two thousand three hundred forty five", "deux mille trois cent quarante cinq"),
        (1_000_000, "one million", "un million"),
    ],
)
def test_numbers_are_read_in_both_languages(value: int, english: str, french: str) -> None:
    assert pronounce.number_words(value, "en") == english
    assert pronounce.number_words(value, "fr") == french


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("In 1995", "in nineteen ninety five"),
        ("$20 or 3.5 %", "twenty dollars or three point five percent"),
        ("2,500 dogs at 7:30", "two thousand five hundred dogs at seven thirty"),
        ("room 007", "room zero zero seven"),
    ],
)
def test_english_numbers_and_signs_are_read_out(text: str, read: str) -> None:
    assert " ".join(pronounce.read_out(text, "en").split()) == read


def drained(text: str, language: str) -> list[list[str]]:
    work = pronounce.sounds_of(text, language)
    while True:
        try:
            next(work)
        except StopIteration as finished:
            return finished.value


def test_english_lips_meet_where_the_words_say() -> None:
    lips = [
        viseme
        for word in drained("We have moved my boats, people!", "en")
        for viseme in classes_of(word)
        if viseme in ("PP", "FF")
    ]
    assert lips == ["FF", "PP", "FF", "PP", "PP", "PP", "PP"]


@pytest.mark.parametrize(("text", "language"), [("", "fr"), ("?!…", "fr"), ("", "en"), ("日本語 🙂", "en")])
def test_text_without_words_has_no_sounds(text: str, language: str) -> None:
    assert drained(text, language) == []


def test_every_sound_our_own_tables_name_has_a_class() -> None:
    said = {sound for table in (pronounce.ENGLISH, pronounce.FRENCH) for sounds in table.values() for sound in sounds}
    said |= {sound for _, sounds in pronounce.RULES for sound in sounds} | set(pronounce.LIAISON.values())
    assert said - set(CLASS_OF) == set()
