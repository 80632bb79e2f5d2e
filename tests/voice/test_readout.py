"""What is written so that it can be said."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.voice.readout import read_out

FRENCH = {
    "à 14h30, 14 h 05, 8:00, 1 h": "à quatorze heures trente, quatorze heures cinq, huit heures, une heure",
    "Ça coûte 12,50 $.": "Ça coûte douze dollars cinquante.",
    "1 €, $5 et 3 M$": "un euro, cinq dollars et trois millions de dollars",
    "Le 15/03/2024": "Le quinze mars deux mille vingt quatre",
    "le 2024-03-01": "le premier mars deux mille vingt quatre",
    "le 1er mars, la 2e, la 21e et le 5e": "le premier mars, la deuxième, la vingt et unième et le cinquième",
    "Le XIXe siècle, Louis XIV et François Ier": "Le dix-neuvième siècle, Louis quatorze et François premier",
    "Ve République": "cinquième République",
    "Le chat et ce chien": "Le chat et ce chien",
    "M. Tremblay, Mme Roy et Dr Côté": "monsieur Tremblay, madame Roy et docteur Côté",
    "p. ex. ceci, c.-à-d. cela": "par exemple ceci, c'est-à-dire cela",
    "le 514-555-1234": "le cinq un quatre, cinq cinq cinq, douze trente quatre",
    "le 514 555-1234": "le cinq un quatre, cinq cinq cinq, douze trente quatre",
    "le (514) 555-1234": "le, cinq un quatre, cinq cinq cinq, douze trente quatre",
    "50 $/mois": "cinquante dollars par mois",
    "1 M$": "un million de dollars",
    "12, rue Roy, app. 3": "douze, rue Roy, appartement trois",
    "Il fait -5 °C": "Il fait moins cinq degrés Celsius",
    "100 km/h, 50 %, 20 m²": "cent kilomètres à l'heure, cinquante pour cent, vingt mètres carrés",
    "10-12 personnes": "dix à douze personnes",
    "3,05 ou 3,5": "trois virgule zéro cinq ou trois virgule cinq",
    "1/2, 3/4, 5/8": "un demi, trois quarts, cinq sur huit",
    "SNCF, ONU": "esse enne cé effe, onu",
    "BONJOUR TOUT LE MONDE": "bonjour tout le monde",
    "https://www.exemple.ca/page?x=1": "exemple point ca",
    "info@site.ca": "info arobase site point ca",
    "12 000 ans, 1 minute": "douze mille ans, une minute",
    "version 2.0.1": "version deux point zéro point un",
    "« oui »": "oui",
    "J. K. Rowling": "ji ka Rowling",
}
ENGLISH = {
    "Visit https://www.example.com/page?x=1, please.": "Visit example dot com, please.",
    "info@site.ca": "info at site dot ca",
    "at 14h30": "at 14:30",
    "5 $ and 1 €": "5 dollars and 1 euro",
    "HELLO EVERYONE HERE": "hello everyone here",
    "No. 5 is naïve": "number 5 is naive",
}


@pytest.mark.parametrize(("written", "said"), FRENCH.items())
def test_french_is_read_out(written, said):
    assert read_out(written, "fr") == said


@pytest.mark.parametrize(("written", "said"), ENGLISH.items())
def test_english_is_read_out_where_its_voices_would_not(written, said):
    assert read_out(written, "en") == said


@pytest.mark.parametrize("language", ["en", "fr", "es", "de", "ru"])
def test_pictures_are_not_read(language):
    assert read_out("Da 😀👍🏽 →", language) == "Da"


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=120))
def test_any_french_becomes_words_alone(text):
    said = read_out(text, "fr")
    assert not re.search(r"\d|[@#&%$€£+=<>*_/\[\]{}|\\^~]", said)
    assert "\n" not in said and "  " not in said


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="0123456789 ,.-:/h$€%eIVXLC°²+x", max_size=60))
def test_any_heap_of_numbers_is_read(text):
    assert not re.search(r"[0-9]", read_out(text, "fr"))
    read_out(text, "en")
