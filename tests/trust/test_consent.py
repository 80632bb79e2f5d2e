"""Consent counts only as given, its text has a version, and the terms say what is so."""

import hashlib

import pytest

from pipeline import jobs
from pipeline.avatar import licence
from pipeline.errors import ConsentMissing
from pipeline.texts import LANGUAGES, TEXTS, say
from pipeline.trust import audit, consent

# SHA-256 of what is agreed to, in both languages, by the id under which it was agreed to
AGREED_TO = {"consent-1": "e683641189e645dab22108608fb9f1c4286fca88ac54acdcb3903c39c9a314d1"}


@pytest.mark.parametrize("agreed", [False, None, 1, 1.0, "true", "True", "false", "on", [True], {"consent": True}])
def test_nothing_but_true_is_consent(agreed):
    with pytest.raises(ConsentMissing):
        consent.require(agreed)


def test_true_is_consent():
    consent.require(True)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_refusal_says_what_is_asked_for_and_which_argument_says_it(language):
    with pytest.raises(ConsentMissing) as refused:
        consent.require(False)
    said = refused.value.text(language)
    assert consent.statement(language) in said and "consent=true" in said
    assert all(way in said for way in ("page", "API", "MCP"))


def test_another_text_has_another_id():
    asked = "".join(text for key in ("PageConsent", "TermsUse") for text in TEXTS[key])
    found = hashlib.sha256(asked.encode()).hexdigest()
    assert AGREED_TO.get(consent.TEXT_ID) == found, "count consent.TEXT_ID up, and add its hash here"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_terms_hold_their_version_the_model_s_licence_and_what_is_kept(language, monkeypatch):
    monkeypatch.delenv("PORTRAIT_AUDIT", raising=False)
    terms = consent.terms(language, kept_hours=5)
    assert consent.TEXT_ID in terms and say("TermsUse", language) in terms
    assert say("LicenceTerms", language, address=licence.ADDRESS) in terms
    hours = {"en": "hours", "fr": "heures"}[language]
    assert f"5 {hours}" in terms and f"{jobs.KEEP_SECONDS // 3600} {hours}" in terms
    assert TEXTS["TermsNotAudited"].en in consent.terms("en", kept_hours=5)


@pytest.mark.parametrize(("language", "kept"), [("en", "For 90 days"), ("fr", "Pendant 90 jours")])
def test_the_terms_say_that_a_log_is_kept_where_one_is(language, kept, monkeypatch, tmp_path):
    monkeypatch.setenv("PORTRAIT_AUDIT", str(tmp_path / "audit.jsonl"))
    assert kept in consent.terms(language, kept_hours=3)
    monkeypatch.setenv("PORTRAIT_AUDIT_DAYS", "7")
    assert kept.replace(str(audit.KEEP_DAYS), "7") in consent.terms(language, kept_hours=3)


@pytest.mark.parametrize("language", LANGUAGES)
def test_territory_and_use_policy_stand_beside_the_acceptance_of_the_page_too(language):
    shown, places = TEXTS["PageLicence"], TEXTS["LicenceTerms"]
    words = {"en": ("United Kingdom", "South Korea", "European Union", "use policy", "impersonating")}
    words["fr"] = ("Royaume-Uni", "Corée du Sud", "Union européenne", "utilisation", "se faire passer")
    for text in (shown, places):
        assert all(word in getattr(text, language) for word in words[language])
