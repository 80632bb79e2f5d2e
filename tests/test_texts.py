"""Every sentence exists in both languages, takes the same values in both, and is used."""

import ast
import re
import string
from pathlib import Path

import pytest

from pipeline import errors
from pipeline.errors import AvatarError
from pipeline.texts import LANGUAGES, TEXTS, Notice, number, say

PROJECT = Path(__file__).parents[1]
SOURCES = [PROJECT / "app.py", *sorted((PROJECT / "pipeline").rglob("*.py"))]


def fields(text: str) -> set[str]:
    """The names a text has between braces."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def met(kind: type[AvatarError] = AvatarError) -> list[type[AvatarError]]:
    """The classes that are raised: the leaves of the tree."""
    below = kind.__subclasses__()
    return [leaf for child in below for leaf in met(child)] if below else [kind]


@pytest.mark.parametrize("key", TEXTS)
def test_a_text_takes_the_same_values_in_both_languages(key):
    text = TEXTS[key]
    assert text.en.strip() and text.fr.strip()
    assert fields(text.en) == fields(text.fr)
    values = dict.fromkeys(fields(text.en), "THIS")
    for language in LANGUAGES:
        written = say(key, language, **values)
        assert written.count("THIS") >= len(values) and "{" not in written


@pytest.mark.parametrize("kind", met(), ids=lambda kind: kind.__name__)
def test_an_error_names_in_its_docstring_the_values_of_its_text(kind):
    listed = re.search(r"Values: ([^.]*)\.", kind.__doc__)
    assert listed, "the docstring lists no values"
    names = {name.removesuffix("_en").removesuffix("_fr") for name in re.findall(r"\w+", listed[1]) if name != "and"}
    assert names == fields(TEXTS[kind.__name__].en)


@pytest.mark.parametrize("kind", met(), ids=lambda kind: kind.__name__)
def test_an_error_reads_in_both_languages(kind):
    names = fields(TEXTS[kind.__name__].en)
    values = {f"{name}_{language}": f"<{language}>" for name in names for language in LANGUAGES}
    error = kind(**values)
    assert error.text("en") == str(error) != error.text("fr")
    assert "<fr>" not in error.text("en") and "<en>" not in error.text("fr")


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = re.findall(r"[├└]── (.*)", re.sub(r"\n +│ +(?=\w)", " ", errors.__doc__ or ""))
    assert len(drawn) == len(AvatarError.__subclasses__())
    for line in drawn:
        branch, *leaves = line.split()
        assert [leaf.__name__ for leaf in getattr(errors, branch).__subclasses__()] == leaves


def keys_asked_for() -> set[str]:
    """First arguments, written out, of say(), Notice(), Step() in the project."""
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in ("say", "Notice", "Step"):
                    found.add(str(node.args[0].value))
    return found


def test_every_text_asked_for_exists():
    asked = keys_asked_for()
    assert "StageReading" in asked and asked <= set(TEXTS)


def test_every_text_is_used():
    used = {kind.__name__ for kind in met()}
    patterns = set()  # of names put together, as f"Page{engine}Name"
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))) if source.name != "texts.py" else ():
            if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
                if re.fullmatch(r"[A-Z][a-z]+\w*", str(parts[0])):
                    patterns.add("".join(r"\w+" if part is None else re.escape(str(part)) for part in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.add(node.value)
    assert not {key for key in TEXTS if key not in used and not any(re.fullmatch(one, key) for one in patterns)}


def test_numbers_are_written_as_the_language_writes_them():
    assert (number(74.25, "en"), number(74.25, "fr")) == ("74.2", "74,2")
    values = {"name": "a.wav", "seconds": 0.31, "limit_seconds": 0.4}
    assert "0.3 s" in say("SoundTooShort", "en", **values) and "0,3 s" in say("SoundTooShort", "fr", **values)


def test_whole_numbers_stay_whole():
    assert "64 MiB" in say("PictureFileTooLarge", "en", name="a.png", mebibytes=90, limit_mebibytes=64)


def test_an_unknown_language_is_answered_in_english():
    assert say("StageReading", "de") == TEXTS["StageReading"].en


def test_a_missing_value_is_a_mistake_of_the_program():
    with pytest.raises(KeyError):
        say("FileMissing", "en")


def test_a_notice_reads_in_both_languages():
    notice = Notice("SoundClipped")
    assert (notice.text("en"), notice.text("fr")) == TEXTS["SoundClipped"]
