"""The page as programs meet it: the endpoint /render, the MCP tool, the queue, the GPU route, the texts."""

import asyncio
import base64
import contextlib
import json
import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.client import Job
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, Tool
from PIL import Image

from pipeline.avatar import leases
from pipeline.direction import MOODS
from pipeline.errors import JobMissing
from pipeline.request import CAPTIONS
from pipeline.texts import LANGUAGES, TEXTS, say
from tests.conftest import EXAMPLES, SHORT_SECONDS, first_sound, tone, write_wav
from tests.server import FOLDERS_EACH, ROOT, Server, wait_until

SHORT_FRAMES = round(SHORT_SECONDS * 25)
MCP_SECONDS = 180  # a short clip on a crowded machine; from a server that has died no answer ever comes


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    """A program that asks in English."""
    return Client(server.url, verbose=False, headers={"Accept-Language": "en-CA,en;q=0.9"})


@pytest.fixture(scope="module")
def french_client(server: Server) -> Client:
    """A program that asks in French."""
    return Client(server.url, verbose=False, headers={"Accept-Language": "fr-CA,fr;q=0.9,en;q=0.5"})


def played(path: str) -> tuple[np.ndarray, int]:
    """The first frame of a clip and how many there are; its sound must decode too."""
    with av.open(path) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) > 0
    with av.open(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return frames[0], len(frames)


def path_of(video: Any) -> str:
    """Where gradio_client put a clip."""
    return video["video"] if isinstance(video, dict) else video


# --- the endpoint -----------------------------------------------------------------------------------------------------


def test_render_returns_a_playable_clip_and_its_details(client, server, portrait_path, short_voice):
    video, status, details, job, captions = client.predict(
        portrait=handle_file(portrait_path),
        speech=handle_file(short_voice),
        seed=12345,
        consent=True,
        api_name="/render",
    )
    frame, count = played(path_of(video))
    assert frame.shape == (512, 512, 3)
    assert count == SHORT_FRAMES
    assert status == TEXTS["PageDone"].en
    assert "Engine: draft" in details
    assert "Seed: 12345" in details
    assert "512×512" in details
    assert job == "" and not captions  # a draft keeps none, and no words were given
    assert server.has_cleared()


def test_size_words_and_points_are_honoured(client, short_voice):
    row = "portraits/drawing_of_a_fox.jpg"
    points = next(line for line in (EXAMPLES / "examples.csv").read_text("utf-8").splitlines() if line.startswith(row))
    video, _, details, *_ = client.predict(
        portrait=handle_file(EXAMPLES / row),
        speech=handle_file(short_voice),
        size=768,
        points=points.split('"')[1],
        text="Hello.",
        language="en",
        consent=True,
        api_name="/render",
    )
    assert played(path_of(video))[0].shape == (768, 768, 3)
    assert "768×768" in details


def test_two_visitors_get_their_own_clips(server, short_voice):
    names = ("woman_facing_camera", "painting_of_franklin")
    jobs = [
        Client(server.url, verbose=False).submit(
            portrait=handle_file(EXAMPLES / "portraits" / f"{name}.jpg"),
            speech=handle_file(short_voice),
            seed=seed,
            consent=True,
            api_name="/render",
        )
        for seed, name in enumerate(names)
    ]
    frames = []
    for seed, job in enumerate(jobs):
        video, _, details, *_ = job.result(timeout=120)
        assert details.splitlines()[0].endswith(f"Seed: {seed}")
        frames.append(played(path_of(video))[0].astype(float))
    alone = frames_of_each_alone(server, names, short_voice)
    for seed in range(2):
        own, other = (np.abs(frames[seed] - alone[place]).mean() for place in (seed, 1 - seed))
        assert own < 1 < other  # of 255: the same seed gives the same clip; the other portrait is far from it


def frames_of_each_alone(server: Server, names: tuple[str, ...], voice: Path) -> list[np.ndarray]:
    """The first frame of each portrait's clip, rendered one after the other."""
    frames = []
    for seed, name in enumerate(names):
        video, *_ = Client(server.url, verbose=False).predict(
            portrait=handle_file(EXAMPLES / "portraits" / f"{name}.jpg"),
            speech=handle_file(voice),
            seed=seed,
            consent=True,
            api_name="/render",
        )
        frames.append(played(path_of(video))[0].astype(float))
    return frames


@pytest.fixture(scope="module")
def refused_inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that are no picture, or no voice."""
    folder = tmp_path_factory.mktemp("refused")
    (folder / "words.png").write_text("no picture")
    (folder / "empty.mp3").touch()
    write_wav(folder / "silence.wav", tone(1.0, peak=0.0), 16_000)
    Image.new("L", (10_000, 10_000)).save(folder / "hundred_megapixels.png")
    return {path.stem: path for path in folder.iterdir()}


SPOKEN = {"speech": None, "script": "Hello there."}


@pytest.mark.parametrize(
    ("changed", "english", "french"),
    [
        ({"portrait": None}, "A picture is missing", "Il manque une image"),
        ({"speech": None}, "Words are missing", "Il manque les mots"),
        ({"portrait": "faceless"}, "No face found in landscape.png", "Aucun visage trouvé dans landscape.png"),
        ({"portrait": "words"}, "words.png is not a picture", "words.png n'est pas une image"),
        ({"portrait": "hundred_megapixels"}, "10000×10000", "10000×10000"),
        ({"speech": "silence"}, "silence.wav is silent", "silence.wav est silencieux"),
        ({"speech": "empty"}, "empty.mp3 is not a sound", "empty.mp3 n'est pas un fichier son"),
        ({"points": "1,2 3,4"}, "Three points are needed", "Il faut trois points"),
        ({"engine": "avatar", "avatar_size": 256}, "has not been accepted", "n'a pas été acceptée"),
        ({"seed": -1}, "from 0 to 2147483647", "de 0 à 2147483647"),
        ({"face": 0}, "counted from 1", "à partir de 1"),
        ({"face": 7}, "Face 7 was asked for", "Le visage 7 a été demandé"),
        ({"text": "a" * 20_000}, "20000", "20000"),
        ({"motion": 7}, "from 0 to 1", "de 0 à 1"),
        ({"expression": -0.1}, "from 0 to 1", "de 0 à 1"),
        ({"mood": "bored"}, "no mood 'bored'", "« bored » n'existe pas"),
        ({"framing": "4:3"}, "no framing '4:3'", "cadrage « 4:3 » n'existe pas"),
        ({"captions": "maybe"}, "no captions 'maybe'", "« maybe » n'existent pas"),
        ({"size": 500}, "Size 500", "taille 500"),
        ({"second_face": "x"}, "counted from 1", "à partir de 1"),
        ({"second_face": "2", "second_speech": "voice"}, "Face 2 was asked for", "Le visage 2 a été demandé"),
        ({"second_speech": "voice"}, "need two faces", "demandent deux visages"),
        (SPOKEN | {"script": " \n"}, "Words are missing", "Il manque les mots"),
        (SPOKEN | {"script": "?! …"}, "holds no word", "ne contient aucun mot"),
        (SPOKEN | {"script": "a " * 10_000}, "20000 characters", "20000 caractères"),
        (SPOKEN | {"script": "A: Hi.\nB: Hello."}, "need two faces", "demandent deux visages"),
        (SPOKEN | {"speed": 9}, "9.0 was asked for", "9,0 a été demandé"),
        (SPOKEN | {"language": "tlh-Latn"}, "names no language", "n'est le nom d'aucune langue"),
        (SPOKEN | {"language": "; rm -rf /"}, "names no language", "n'est le nom d'aucune langue"),
        (SPOKEN | {"voice": "nobody"}, "no voice 'nobody'", "voix « nobody » n'existe pas"),
        (SPOKEN | {"voice": "heart", "language": "fr"}, "reads language 'en' only", "ne lit que la langue « en »"),
    ],
)
def test_refusals_are_in_the_callers_language(
    client, french_client, server, portrait_path, short_voice, faceless_path, refused_inputs, changed, english, french
):
    files = {**refused_inputs, "faceless": faceless_path, "voice": short_voice}
    given = {"portrait": portrait_path, "speech": short_voice, **changed}
    for name in {"portrait", "speech", "second_speech"} & given.keys():
        given[name] = given[name] and handle_file(files.get(given[name], given[name]))
    for caller, fragment, title in (
        (client, english, TEXTS["PageNotMade"].en),
        (french_client, french, TEXTS["PageNotMade"].fr),
    ):
        with pytest.raises(AppError) as caught:
            caller.predict(**{"consent": True, **given}, api_name="/render")
        assert fragment in caught.value.message
        assert caught.value.title == title
    assert server.has_cleared()


def test_a_data_url_reaches_the_door_unopened(server, short_voice):
    """A picture inside the JSON body is judged by its bytes like any other; here it is none."""
    upload = httpx.post(f"{server.url}/gradio_api/upload", files={"files": short_voice.read_bytes()}).json()[0]
    picture = {"url": "data:image/png;base64," + base64.b64encode(b"no picture").decode(), "meta": FILE}
    call = httpx.post(
        f"{server.url}/gradio_api/call/render",
        json={"data": [picture, {"path": upload, "meta": FILE}, "draft", 512, None, None, "", "", "", *OTHERS]},
    )
    stream = httpx.get(f"{server.url}/gradio_api/call/render/{call.json()['event_id']}", timeout=60).text
    assert "is not a picture" in stream.encode().decode("unicode_escape")


FILE = {"_type": "gradio.FileData"}
# the avatar's settings, a script's, directions, and a second speaker's: a draft of a recording leaves most aside
OTHERS = [
    "",
    512,
    50,
    "published",
    "",
    "script",
    "",
    "",
    1,
    0.5,
    0.5,
    "neutral",
    "1:1",
    "none",
    None,
    "",
    True,
    "",
    False,
    False,
]


def test_five_endpoints_are_offered_and_their_extras_are_optional(client):
    offered = client.view_api(return_format="dict", print_info=False)
    assert list(offered["named_endpoints"]) == ["/render", "/resume", "/speak", "/report", "/plan"]
    assert not offered["unnamed_endpoints"]
    parameters = offered["named_endpoints"]["/render"]["parameters"]
    assert [p["parameter_name"] for p in parameters if not p["parameter_has_default"]] in (["portrait"], [])


def test_a_plan_is_asked_for_without_naming_an_engine_and_says_what_is_wrong(
    client, french_client, portrait_path, short_voice, refused_inputs
):
    pytest.importorskip("diffusers")
    files = {"portrait": handle_file(portrait_path), "speech": handle_file(short_voice)}
    told = client.predict(**files, avatar_size=256, api_name="/plan")
    if "of disk are needed" not in told and "cannot be made here" not in told:  # as on a machine too small for it
        assert "| 256×256 | 50, published |" in told.replace("→ ", "") and TEXTS["PlanEstimated"].en in told
    assert client.predict(portrait=None, speech=None, api_name="/plan") == TEXTS["PagePlanMissing"].en
    files["portrait"] = handle_file(refused_inputs["words"])
    assert "words.png n'est pas une image" in french_client.predict(**files, api_name="/plan")
    with pytest.raises(AppError, match="whole number from 1 to 100"):
        client.predict(**files, steps=1.5, api_name="/plan")


@pytest.mark.parametrize("job", ["", "0" * 32, "../../etc/passwd", "a" * 10_000, None])
def test_a_job_that_is_not_there_is_refused_in_words(client, server, job):
    with pytest.raises(AppError, match="There is no job"):
        client.predict(job=job, api_name="/resume")
    assert server.has_cleared()


@pytest.mark.parametrize("consent", [None, False, "true", 1])
def test_without_consent_nothing_is_made(client, french_client, server, portrait_path, short_voice, consent):
    files = {"portrait": handle_file(portrait_path), "speech": handle_file(short_voice)}
    given = {} if consent is None else {"consent": consent}
    for caller, language in ((client, "en"), (french_client, "fr")):
        with pytest.raises(AppError) as caught:
            caller.predict(**files, **given, api_name="/render")
        assert getattr(TEXTS["PageConsent"], language) in caught.value.message
    assert not server.work_folders()


def test_progress_is_told_while_it_renders(client, portrait_path, short_voice):
    job = client.submit(
        portrait=handle_file(portrait_path), speech=handle_file(short_voice), consent=True, api_name="/render"
    )
    words = [status for _, status, *_ in job]
    assert any(word.startswith(TEXTS["StageReading"].en) for word in words)
    assert words[-1] == TEXTS["PageDone"].en


# --- scripts and speakers ---------------------------------------------------------------------------------------------


def heard(path: str) -> tuple[np.ndarray, float]:
    """The loudness of a sound file, 50 values a second, and how many seconds it lasts."""
    samples, rate, _ = first_sound(Path(path))
    mono = samples.astype(np.float64).mean(axis=0)
    step = rate // 50
    levels = np.abs(mono[: len(mono) // step * step]).reshape(-1, step).mean(axis=1)
    return levels / np.abs(mono).max(), len(mono) / rate


def sound_of(sound: Any) -> str:
    """Where gradio_client put a sound."""
    return sound["value"] if isinstance(sound, dict) and "value" in sound else sound


def test_a_script_is_spoken_by_itself_and_by_the_clip(client, server, portrait_path):
    words = {"script": "Hello! My name is Grace.", "language": "en"}
    sound, status = client.predict(**words, api_name="/speak")
    levels, seconds = heard(sound_of(sound))
    assert status == TEXTS["PageListenReady"].en
    assert 1 < seconds < 6 and levels.max() > 0.1
    slow, _ = client.predict(**words, speed=0.5, api_name="/speak")
    assert heard(sound_of(slow))[1] > 1.5 * seconds
    video, status, details, _, captions = client.predict(
        portrait=handle_file(portrait_path), **words, seed="3", captions="file", consent=True, api_name="/render"
    )
    assert status == TEXTS["PageDone"].en and "Seed: 3" in details
    drawn, clip_seconds = heard(path_of(video))
    assert clip_seconds == pytest.approx(seconds, abs=0.1)
    shared = min(len(levels), len(drawn))
    assert np.corrcoef(levels[:shared], drawn[:shared])[0, 1] > 0.9  # the same voice, from an mp4
    assert sorted(Path(path).suffix for path in captions) == [".srt", ".vtt"]
    assert all("My name is Grace." in Path(path).read_text("utf-8").replace("\n", " ") for path in captions)
    assert server.has_cleared()


@pytest.mark.parametrize(
    ("changed", "english", "french"),
    [
        ({"script": ""}, "Words are missing", "Il manque les mots"),
        ({"script": "?! …"}, "holds no word", "ne contient aucun mot"),
        ({"script": "a " * 10_000}, "20000 characters", "20000 caractères"),
        ({"speed": 9}, "9.0 was asked for", "9,0 a été demandé"),
        ({"language": "tlh-Latn"}, "names no language", "n'est le nom d'aucune langue"),
        ({"voice": "nobody"}, "no voice 'nobody'", "voix « nobody » n'existe pas"),
        ({"voice": "heart", "language": "fr"}, "reads language 'en' only", "ne lit que la langue « en »"),
        ({"script": "ꦲꦤꦕꦫꦏ ꦢꦠꦱꦮꦭ"}, "holds no word", "ne contient aucun mot"),
    ],
)
def test_what_cannot_be_spoken_is_refused_in_the_callers_language(
    client, french_client, server, changed, english, french
):
    for caller, fragment, unexpected in (
        (client, english, TEXTS["PageUnexpected"].en),
        (french_client, french, TEXTS["PageUnexpected"].fr),
    ):
        with pytest.raises(AppError) as caught:
            caller.predict(**{"script": "Hello there.", **changed}, api_name="/speak")
        assert fragment in caught.value.message and unexpected not in caught.value.message
    assert server.has_cleared()


def test_two_speakers_two_framings_and_a_mood_are_honoured(client, server, two_faces_path, short_voice):
    video, *_, captions = client.predict(
        portrait=handle_file(two_faces_path),
        speech=handle_file(short_voice),
        second_speech=handle_file(short_voice),
        second_face="1",
        framing="16:9",
        size=256,
        motion=0,
        expression=1,
        mood="happy",
        text="Hello there.",
        captions="burned",
        seed="5",
        consent=True,
        api_name="/render",
    )
    frame, count = played(path_of(video))
    assert frame.shape[0] == 256 and frame.shape[1] / frame.shape[0] == pytest.approx(16 / 9, abs=0.05)
    assert count > 2 * SHORT_FRAMES  # one after the other
    assert len(captions) == 2
    assert server.has_cleared()


def test_a_report_measures_a_clip_and_says_what_is_wrong(client, french_client, server, portrait_path, short_voice):
    video, *_ = client.predict(
        portrait=handle_file(portrait_path), speech=handle_file(short_voice), consent=True, api_name="/render"
    )
    given = {"clip": handle_file(path_of(video)), "portrait": handle_file(portrait_path)}
    plot, table, written = client.predict(**given, api_name="/report")
    assert TEXTS["ReportSync"].en in table and plot.startswith("<img alt=")
    drawn = base64.b64decode(plot.partition("base64,")[2].partition('"')[0]).decode()
    assert drawn.lstrip().startswith("<") and TEXTS["ReportLaneMouth"].en in drawn
    found = json.loads(Path(written).read_text("utf-8"))
    assert found["num_frames"] == SHORT_FRAMES and found["figures"]
    assert TEXTS["ReportSync"].fr in french_client.predict(**given, api_name="/report")[1]
    for wrong, english, french in (
        ({"clip": None}, TEXTS["PageReportEmpty"].en, TEXTS["PageReportEmpty"].fr),
        ({"clip": handle_file(short_voice)}, "is not a video", "n'est pas une vidéo"),
        ({"points": "1,2"}, "Three points are needed", "Il faut trois points"),
        ({"face": "9"}, "Face 9 was asked for", "Le visage 9 a été demandé"),
        ({"face": "x"}, TEXTS["PageFaceImpossible"].en, TEXTS["PageFaceImpossible"].fr),
    ):
        for caller, fragment in ((client, english), (french_client, french)):
            with pytest.raises(AppError) as caught:
                caller.predict(**{**given, **wrong}, api_name="/report")
            assert fragment in caught.value.message
    assert server.has_cleared()


def test_two_visitors_scripts_never_mix(server, portrait_path):
    """At once, in two languages, spoken and drawn: each gets the voice and the captions of the own words."""
    scripts = {"en": "Nine men sing. A moon is near.", "fr": "Papa a bu beaucoup de café ce matin à la plage."}
    alone = {
        language: heard(sound_of(visitor(server).predict(script=script, language=language, api_name="/speak")[0]))
        for language, script in scripts.items()
    }
    jobs = {
        language: visitor(server).submit(
            portrait=handle_file(portrait_path),
            script=script,
            captions="file",
            size=256,
            consent=True,
            api_name="/render",
        )
        for language, script in scripts.items()
    }
    for language, job in jobs.items():
        video, _, _, _, captions = job.result(timeout=120)
        drawn, seconds = heard(path_of(video))
        assert seconds == pytest.approx(alone[language][1], abs=0.1)
        likeness = {}
        for other, (levels, _) in alone.items():
            shared = min(len(levels), len(drawn))
            likeness[other] = np.corrcoef(levels[:shared], drawn[:shared])[0, 1]
        assert max(likeness, key=likeness.__getitem__) == language and likeness[language] > 0.9
        told = Path(captions[0]).read_text("utf-8").replace("\n", " ")
        assert scripts[language].split(".")[0] in told
    assert server.has_cleared()


def visitor(server: Server) -> Client:
    """A new one."""
    return Client(server.url, verbose=False)


# --- the queue --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes, longer than it takes to fill the queue; few bytes, since every caller uploads it."""
    return write_wav(tmp_path_factory.mktemp("long") / "long.wav", tone(120.0, 4_000), 4_000)


def test_the_queue_is_bounded_and_cancelling_empties_it(server, portrait_path, long_voice):
    from app import QUEUE_LENGTH, RENDERS_AT_ONCE

    callers = [Client(server.url, verbose=False) for _ in range(2)]
    jobs: list[Job] = []

    def submit() -> None:
        files = {"portrait": handle_file(portrait_path), "speech": handle_file(long_voice)}
        jobs.append(callers[len(jobs) % 2].submit(**files, consent=True, api_name="/render"))

    folders = FOLDERS_EACH * RENDERS_AT_ONCE
    try:
        for _ in range(RENDERS_AT_ONCE):
            submit()
        assert wait_until(lambda: len(server.work_folders()) == folders, 30)
        for _ in range(QUEUE_LENGTH + 4):
            submit()
        refused = wait_until(lambda: sum(job.done() for job in jobs) == 4, 60)
        assert refused, [job.status().code for job in jobs]
        told = {str(job.exception()) for job in jobs if job.done()}
        assert len(told) == 1 and say("LineFull", "en", count=QUEUE_LENGTH) in told.pop()
        places = {job.outputs()[-1][1] for job in jobs if not job.done() and job.outputs()}
        assert any(place.startswith(say("StageInLine", "en", done=QUEUE_LENGTH)) for place in places), places
        assert len(server.work_folders()) == folders
    finally:
        for job in reversed(jobs):
            with contextlib.suppress(httpx.TimeoutException):  # the client's five seconds, on a crowded machine
                job.cancel()
    assert server.has_cleared(60)


def test_no_call_goes_round_the_queue(server):
    for path in ("run/render", "api/render"):
        assert httpx.post(f"{server.url}/gradio_api/{path}", json={"data": []}).status_code in (404, 405)


def test_nothing_is_told_about_other_visitors(server):
    assert httpx.get(f"{server.url}/gradio_api/runs").status_code == 404
    assert httpx.get(f"{server.url}/monitoring/summary").status_code in (403, 404)


# --- MCP --------------------------------------------------------------------------------------------------------------


def data_url(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def ask_mcp(
    server: Server, arguments: dict[str, Any] | None, language: str
) -> tuple[list[Tool], CallToolResult | None]:
    """The tools on offer and, with arguments, what the first one answers."""

    async def ask() -> tuple[list[Tool], CallToolResult | None]:
        async with (
            httpx.AsyncClient(headers={"Accept-Language": language}, timeout=120) as http,
            streamable_http_client(f"{server.url}/gradio_api/mcp/", http_client=http) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            return tools, await session.call_tool(tools[0].name, arguments) if arguments else None

    with ThreadPoolExecutor(1) as elsewhere:  # this thread may be running Playwright's event loop
        return elsewhere.submit(lambda: asyncio.run(asyncio.wait_for(ask(), MCP_SECONDS))).result()


def test_mcp_offers_described_tools(server):
    tools, _ = ask_mcp(server, None, "en")
    words = {"render": "lip", "resume": "done again", "speak": "listened", "report": "lag", "plan": "memory"}
    assert [tool.name for tool in tools] == list(words)
    assert all(words[tool.name] in (tool.description or "") for tool in tools)
    drafts = {"portrait", "speech", "engine", "size", "seed", "face", "points", "text", "language"}
    avatars = {"prompt", "avatar_size", "steps", "preset"}
    voices = {"script", "source", "voice", "second_voice", "speed", "second_speech", "second_face"}
    directions = {"motion", "expression", "mood", "framing", "captions"}
    trust = {"consent", "unlabelled", "mark", "confirmed"}
    assert set(tools[0].inputSchema["properties"]) == drafts | avatars | voices | directions | trust
    for tool in tools:
        arguments = tool.inputSchema["properties"]
        assert all(argument.get("description") for argument in arguments.values()), arguments
    assert set(tools[0].inputSchema.get("required", [])) <= {"portrait", "speech"}


def test_mcp_makes_a_clip_from_data_urls(server, portrait_path, short_voice):
    files = {"portrait": data_url(portrait_path, "image/jpeg"), "speech": data_url(short_voice, "audio/wav")}
    _, answer = ask_mcp(server, {**files, "seed": "7", "consent": True}, "en")
    assert answer is not None
    assert not answer.isError
    said = " ".join(getattr(part, "text", "") for part in answer.content)
    assert "Seed: 7" in said
    address = re.search(r"http://\S+?\.mp4", said)
    assert address, said
    assert httpx.get(address.group()).content[4:8] == b"ftyp"


def test_mcp_refuses_in_the_callers_language(server, faceless_path, short_voice):
    files = {"portrait": data_url(faceless_path, "image/png"), "speech": data_url(short_voice, "audio/wav")}
    _, answer = ask_mcp(server, {**files, "consent": True}, "fr-CA")
    assert answer is not None
    assert answer.isError
    assert "Aucun visage trouvé" in " ".join(getattr(part, "text", "") for part in answer.content)


# --- ZeroGPU ----------------------------------------------------------------------------------------------------------


def test_an_error_of_ours_comes_out_of_a_lease_in_both_languages():
    """A lease runs in another process: what it yields is pickled."""
    [carried] = pickle.loads(pickle.dumps(list(leases.work("nowhere", 1.0))))
    assert isinstance(carried, JobMissing)
    assert "nowhere" in carried.text("fr") and "tâche" in carried.text("fr")


@pytest.fixture(scope="module")
def zero_gpu(portrait_path, short_voice, faceless_path, tmp_path_factory):
    """What the simulation met."""
    folder = tmp_path_factory.mktemp("zero-gpu")
    places = {"TMPDIR": folder, "XDG_CACHE_HOME": folder, "PORTRAIT_JOBS": folder / "jobs"}
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **{name: str(place) for name, place in places.items()}}
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulated_zero_gpu", portrait_path, short_voice, faceless_path],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_draft_takes_no_lease(zero_gpu):
    assert zero_gpu["draft"] == TEXTS["PageDone"].en
    assert zero_gpu["leases_of_a_draft"] == 0


def test_a_render_in_several_leases_releases_each_and_leaves_no_job(zero_gpu):
    assert zero_gpu["leases"] == zero_gpu["released"] >= 3
    assert len(zero_gpu["whole"]) == 64 and zero_gpu["jobs_left"] == 0


def test_without_quota_the_render_pauses_where_it_is_and_ends_alike_when_resumed(zero_gpu):
    for said in (zero_gpu["paused"], zero_gpu["again_without_quota"]):
        assert said.startswith(f"**{TEXTS['PagePaused'].en}**")
    assert zero_gpu["clip_when_paused"] is None and zero_gpu["step_when_paused"]["step"] == 2
    assert zero_gpu["resumed"] == zero_gpu["whole"]


def test_a_killed_worker_pauses_the_render_which_ends_alike_when_resumed(zero_gpu):
    assert zero_gpu["found"] and zero_gpu["killed"] == 1
    assert zero_gpu["broken"].startswith(f"**{TEXTS['PagePaused'].en}**")
    assert zero_gpu["after_the_kill"] == zero_gpu["whole"]


def test_what_goes_wrong_on_a_space_is_said_in_words(zero_gpu):
    assert "No face found" in zero_gpu["refusal"]
    assert "0" * 32 in zero_gpu["unknown_job"]
    assert "nowhere" in zero_gpu["failure"]


# --- words ------------------------------------------------------------------------------------------------------------


def test_every_text_of_the_page_is_shown_and_exists():
    written = (ROOT / "app.py").read_text("utf-8")
    named = set(re.findall(r'"(Page\w+)"', written))
    derived = {"PageEngineDraft", "PageEngineAvatar", "PageDraftName", "PageAvatarName"}  # built from engines' names
    derived |= {f"PageZeroGpu{account}" for account in leases.QUOTAS}
    derived |= {f"PageMood{mood.title()}" for mood in MOODS} | {f"PageCaptions{one.title()}" for one in CAPTIONS}
    composed = {"PageTerms"}  # of several texts, when the page is built
    assert (named | derived) - composed == {key for key in TEXTS if key.startswith("Page")}


def test_both_languages_of_the_page_hold_the_same_texts():
    import app

    english, french = (app.word.translations_dict[language] for language in LANGUAGES)
    assert english.keys() == french.keys()
    assert all(english.values())
    assert all(french.values())
