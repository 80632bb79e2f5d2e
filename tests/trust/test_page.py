"""A page with the picture gate and the audit log switched on, as a program meets it."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from pipeline.texts import TEXTS, say
from pipeline.trust import consent, credentials
from tests.server import Server, serve
from tests.trust.test_gate import shapes

ASKED, REFUSED = 102, 104  # seeds of shapes that the gate asks about and refuses; nothing is on them
SECRET = "zanzibarquilt"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audit log."""
    return tmp_path_factory.mktemp("log") / "audit.jsonl"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("gated"), PORTRAIT_GATE="on", PORTRAIT_AUDIT=str(log)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return Client(server.url, verbose=False, headers={"Accept-Language": "fr-CA"})


def picture(folder: Path, seed: int) -> Path:
    path = folder / f"{SECRET}.png"
    Image.fromarray(shapes(seed)).save(path)
    return path


def last(log: Path) -> dict[str, Any]:
    """The newest line."""
    line: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
    return line


def refused(client: Client, **given: Any) -> str:
    with pytest.raises(AppError) as caught:
        client.predict(**given, consent=True, api_name="/render")
    return str(caught.value.message)


def test_a_picture_that_the_gate_refuses_is_refused_and_noted(client, log, tmp_path, short_voice):
    path = picture(tmp_path, REFUSED)
    told = refused(client, portrait=handle_file(path), speech=handle_file(short_voice), confirmed=True)
    assert told.startswith(TEXTS["PictureRefused"].fr.partition("{")[0])
    line = last(log)
    assert line["outcome"] == "refused" and line["error"] == "PictureRefused" and line["gate"]["picture"] >= 0.8
    assert line["portrait"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert SECRET not in log.read_text()


def test_what_the_gate_asks_is_to_be_answered(client, log, tmp_path, short_voice):
    given = {"portrait": handle_file(picture(tmp_path, ASKED)), "speech": handle_file(short_voice)}
    assert refused(client, **given).startswith(TEXTS["PictureUnconfirmed"].fr.partition("{")[0])
    assert last(log)["error"] == "PictureUnconfirmed"
    assert refused(client, **given, confirmed=True).startswith(TEXTS["PortraitWithoutFace"].fr.partition("{")[0])
    assert last(log)["error"] == "PortraitWithoutFace"


def test_a_clip_is_labelled_signed_and_noted(client, log, portrait_path, short_voice):
    files = {"portrait": handle_file(portrait_path), "speech": handle_file(short_voice)}
    video, _, details, *_ = client.predict(**files, size=256, seed="7", consent=True, api_name="/render")
    clip = Path(video["video"] if isinstance(video, dict) else video)
    assert say("ClipSignedLocal", "fr") in details and "vérifié" not in details
    made = credentials.read(clip).made
    assert made is not None and made.engine == "draft" and made.unlabelled == "" and made.settings["seed"] == 7
    line = last(log)
    assert (line["outcome"], line["label"], line["credentials"], line["mark"]) == ("made", "shown", "local", False)
    assert line["consent"] == consent.TEXT_ID
    assert line["output"] == hashlib.sha256(clip.read_bytes()).hexdigest()
