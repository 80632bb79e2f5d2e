"""Consent: what is agreed to before each clip, and the terms it speaks of. Stores nothing; who ticked is not known.

The avatar model's own licence is accepted apart from it, once on a computer: see `avatar/licence.py`.
"""

from pipeline import hardware, jobs
from pipeline.avatar import licence
from pipeline.errors import ConsentMissing
from pipeline.texts import LANGUAGES, say
from pipeline.trust import audit

TEXT_ID = "consent-1"  # of the box's sentence and of the terms; counted up when one of them says something else


def statement(language: str) -> str:
    """What the box says, in `language`, "en" or "fr"."""
    return say("PageConsent", language)


def require(agreed: object) -> None:
    """Raise unless the box was ticked for this clip.

    Args:
        agreed: As a page or a program sends it. True alone counts: not 1, and not the word "false".

    Raises:
        ConsentMissing: it was not.
    """
    if agreed is not True:
        raise ConsentMissing(**{f"statement_{language}": statement(language) for language in LANGUAGES})


def terms(language: str, *, kept_hours: int) -> str:
    """The terms of use: what may be made, how it is marked, what is kept here, the avatar model's licence. Markdown.

    Args:
        language: "en" or "fr".
        kept_hours: For how long the page keeps uploads and clips.
    """
    days = audit.keep_days()
    job_hours = jobs.KEEP_SECONDS // 3600
    audited = (
        say("TermsNotAudited", language) if hardware.audit_path() is None else say("TermsAudited", language, days=days)
    )
    kept = say("TermsKept", language, hours=kept_hours, job_hours=job_hours)
    return "\n\n".join(
        [
            f"## {say('PageTermsLabel', language)} ({TEXT_ID})",
            say("TermsUse", language),
            f"{kept} {audited}",
            say("LicenceTerms", language, address=licence.ADDRESS),
        ]
    )
