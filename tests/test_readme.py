"""The README's programs run, and what it names exists."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import av
import gradio
import httpx
import huggingface_hub
import pytest
from huggingface_hub import SpaceCard

from pipeline.__main__ import COMMANDS, parser
from pipeline.request import ENGINES
from tests.benchmarks import hardware_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BODY = README.split("\n---\n", 1)[1]
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}  # those a Space's card knows
SHORTEST, LONGEST = 10, 60  # characters of a short description; a longer one is refused by the Hub


def programs(language: str) -> list[str]:
    """The contents of the README's fenced blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", BODY, re.S | re.M)


def column(heading: str, number: int = 0) -> list[str]:
    """One column of the first table under a heading."""
    table = BODY.split(f"\n## {heading}\n")[1].split("\n|", 2)[2].split("\n\n")[0]
    return [row.strip("| ").split("|")[number].strip() for row in table.splitlines()[1:]]


def test_the_card_is_one_that_a_space_accepts():
    card = SpaceCard(README).data.to_dict()
    assert card["sdk"] == "gradio" and card["python_version"] == "3.12" and card["license"] == "apache-2.0"
    assert f"gradio=={card['sdk_version']}\n" in (ROOT / "constraints.txt").read_text("utf-8")
    assert SHORTEST <= len(card["short_description"]) <= LONGEST
    assert {card["colorFrom"], card["colorTo"]} <= COLOURS
    assert (ROOT / card["app_file"]).is_file()


def test_the_program_is_the_one_in_examples():
    assert programs("python")[0] == (ROOT / "examples" / "first_clip.py").read_text("utf-8")


def test_the_program_runs():
    program = [sys.executable, "-c", programs("python")[0]]
    said = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True).stdout
    told = re.fullmatch(r"(.+\.mp4): ([\d.]+) s of clip in [\d.]+ s\n", said)
    assert told, said
    clip, clip_seconds = Path(told[1]), told[2]
    try:
        with av.open(str(clip)) as container:
            frames = sum(1 for _ in container.decode(video=0))
        assert abs(frames / 25 - float(clip_seconds)) <= 0.05
    finally:
        clip.unlink()
        clip.parent.rmdir()


def test_the_http_program_runs(server, monkeypatch):
    program = programs("python")[1]
    assert "http://127.0.0.1:7860" in program
    monkeypatch.chdir(ROOT)
    names: dict = {}
    exec(program.replace("http://127.0.0.1:7860", server.url), names)  # the README's own words
    clip = names["clip"]
    with av.open(clip["video"] if isinstance(clip, dict) else clip) as container:
        assert container.streams.video[0].width == 512
    assert [Path(captions).suffix for captions in names["captions"]] == [".srt", ".vtt"]


def test_the_mcp_address_answers(server):
    address = re.search(r"`http://127\.0\.0\.1:7860(/gradio_api/mcp/)`", BODY)
    assert address
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}},
    }
    accepted = {"accept": "application/json, text/event-stream"}
    answer = httpx.post(server.url + address[1], json=hello, headers=accepted, timeout=30)
    assert answer.status_code == 200 and "serverInfo" in answer.text


@pytest.mark.parametrize("line", [line for block in programs("sh") for line in block.splitlines()])
def test_a_command_is_one_that_is_understood(line):
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text("utf-8"), re.M)
    elif words[:4] == ["python", "-m", "pip", "install"]:
        tested = (ROOT / "constraints.txt").read_text("utf-8")
        assert words[4:] and all(f"\n{package}==" in tested for package in words[4:])
    else:
        assert words[:3] == ["python", "-m", "pipeline"]
        options = parser("en").parse_args(words[3:])
        assert options.command == words[3]


def test_every_option_named_in_the_text_exists(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as left:
            parser("en").parse_args([command, "--help"])
        assert left.value.code == 0
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    text = re.sub(r"^```.*?^```$", "", BODY, flags=re.S | re.M)
    spans = [span for span in re.findall(r"`([^`]+)`", text) if not span.startswith("torchrun ")]
    named = {option for span in spans for option in re.findall(r"--[a-z-]+", span)}
    assert named and named <= known


def test_every_command_is_in_the_readme():
    assert set(COMMANDS) <= set(re.findall(r"python -m pipeline (\w+)", BODY))


def test_the_windows_lines_name_files_that_are_here():
    (block,) = programs("bat")
    for name in ("requirements-draft.txt", "constraints.txt", "app.py"):
        assert name in block and (ROOT / name).is_file()
    assert re.findall(r"-c (\S+)", block) == ["constraints.txt"]


def test_the_engines_are_those_there_are():
    assert column("Engines") == [f"`{engine}`" for engine in ENGINES]


def test_the_settings_are_those_that_are_read():
    named = {name for cell in column("Settings") for name in re.findall(r"`([A-Z_]+)`", cell)}
    ours = [ROOT / "app.py", *(ROOT / "pipeline").rglob("*.py"), ROOT / "tests" / "browser" / "find.py"]
    code = "\n".join(path.read_text("utf-8") for path in ours)
    libraries = {
        prefix: "\n".join(path.read_text("utf-8") for path in Path(str(library.__file__)).parent.glob("*.py"))
        for prefix, library in (("GRADIO_", gradio), ("HF_", huggingface_hub))
    }
    for name in named:
        where = next((text for prefix, text in libraries.items() if name.startswith(prefix)), code)
        assert f'"{name}"' in where, name
    read = set(re.findall(r'environ(?:\.get\(|\[)"([A-Z_]+)"(?!\] =)', code))
    assert read <= named


def test_every_file_the_readme_points_to_is_here():
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", BODY):
        assert not target or (ROOT / target).is_file(), target


def test_every_part_of_the_page_the_readme_points_to_is_here():
    headings = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", BODY, re.M)
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", BODY):
        assert anchor in headings


def test_the_hardware_table_is_what_the_cost_model_says():
    assert f"\n\n{hardware_table.table()}\n\n" in BODY
    rows = hardware_table.table().splitlines()[2:]
    assert all(row.endswith("| estimated |") or re.search(r"measured .*\d{4}.*`python -m", row) for row in rows)
