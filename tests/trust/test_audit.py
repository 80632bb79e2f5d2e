"""The audit log: off unless asked for; a whole line for each attempt, with no trace of who or what; kept for a time."""

import datetime
import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline import hardware, jobs
from pipeline.errors import PortraitWithoutFace
from pipeline.request import RenderRequest
from pipeline.trust import audit

ROOT = Path(__file__).parents[2]
SECRETS = ("Zwyxnora", "Blauwal", "Quittenmus")  # in the names of the picture and the clip, and in the script
WRITER = """
import sys, threading
from pipeline.trust import audit
def write(number):
    for count in range(25):
        audit.record({"writer": f"{sys.argv[1]}-{number}", "count": count, "filler": "x" * 2000})
threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
for one in threads: one.start()
for one in threads: one.join()
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the log is, switched on, in a folder that is not there yet."""
    path = tmp_path / "kept" / "audit.jsonl"
    monkeypatch.setenv("PORTRAIT_AUDIT", str(path))
    return path


@pytest.fixture
def asked(tmp_path: Path) -> RenderRequest:
    """A request with secrets in it."""
    portrait = tmp_path / f"{SECRETS[0]}.jpg"
    portrait.write_bytes(b"a picture")
    return RenderRequest(portrait=portrait, script=f"{SECRETS[2]}, please.")


def lines(log: Path) -> list[dict]:
    """What is in the log."""
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


def line_of(days_ago: float) -> str:
    """A line as it was written some days ago."""
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days_ago)
    return json.dumps({"time": then.strftime(audit.TIME), "days_ago": days_ago}) + "\n"


@pytest.mark.parametrize("off", [None, "", "0", "false", "No", "off"])
def test_nothing_is_written_unless_it_is_switched_on(off, asked, monkeypatch, tmp_path):
    monkeypatch.delenv("PORTRAIT_AUDIT", raising=False)
    if off is not None:
        monkeypatch.setenv("PORTRAIT_AUDIT", off)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with audit.attempt(asked):
        pass
    audit.prune()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_line_holds_hashes_versions_and_marks_and_no_secret(log, asked, tmp_path):
    clip = tmp_path / f"{SECRETS[1]}.mp4"
    clip.write_bytes(b"a clip")
    with audit.attempt(asked, consent="consent-1") as entry:
        entry.model, entry.label, entry.mark, entry.credentials = "a/model@1", audit.SHOWN, True, "local"
        entry.gate, entry.output = {"picture": 0.0123}, clip
    (line,) = lines(log)
    written = datetime.datetime.strptime(line.pop("time"), audit.TIME).replace(tzinfo=datetime.UTC)
    assert abs((datetime.datetime.now(datetime.UTC) - written).total_seconds()) < 60
    assert len(line.pop("job")) == 32
    assert line == {
        "app": jobs.VERSION,
        "engine": "draft",
        "portrait": hashlib.sha256(b"a picture").hexdigest(),
        "sounds": [],
        "script": hashlib.sha256(asked.script.encode()).hexdigest(),
        "outcome": "made",
        "error": None,
        "consent": "consent-1",
        "model": "a/model@1",
        "label": "shown",
        "mark": True,
        "credentials": "local",
        "gate": {"picture": 0.012},
        "output": hashlib.sha256(b"a clip").hexdigest(),
    }
    assert not any(secret in log.read_text("utf-8") for secret in (*SECRETS, str(tmp_path)))


def test_every_recording_is_told_by_its_hash(log, asked, tmp_path):
    voices = [tmp_path / "first.wav", tmp_path / "second.wav"]
    for voice in voices:
        voice.write_text(voice.name)
    with audit.attempt(RenderRequest(portrait=asked.portrait, speech=voices[0], second_speech=voices[1])):
        pass
    assert lines(log)[0]["sounds"] == [hashlib.sha256(voice.name.encode()).hexdigest() for voice in voices]
    assert lines(log)[0]["script"] is None


def test_an_attempt_that_ends_badly_has_its_line_and_goes_on_ending(log, asked):
    def steps():
        with audit.attempt(asked):
            yield

    with pytest.raises(PortraitWithoutFace), audit.attempt(asked):
        raise PortraitWithoutFace(name=SECRETS[0], width=1, height=1)
    with pytest.raises(OSError), audit.attempt(asked):
        raise OSError(SECRETS[1])
    going = steps()
    next(going)
    going.close()
    told = [(line["outcome"], line["error"]) for line in lines(log)]
    assert told == [("refused", "PortraitWithoutFace"), ("failed", "OSError"), ("cancelled", None)]
    assert not any(secret in log.read_text("utf-8") for secret in SECRETS)


def test_a_mark_that_is_none_is_a_mistake_of_the_program(log, asked):
    with pytest.raises(ValueError, match="label"), audit.attempt(asked) as entry:
        entry.label = f"shown to {SECRETS[0]}"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_what_is_no_file_has_no_hash_and_holds_nobody_up(log, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for portrait in (tmp_path / "pipe", tmp_path / "missing", tmp_path, Path("a\0b")):
        with audit.attempt(RenderRequest(portrait=portrait, script="Hello.")):
            pass
    assert [line["portrait"] for line in lines(log)] == [None] * 4


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such permissions")
def test_one_keeps_it_in_the_state_folder_for_its_owner_alone(asked, monkeypatch):
    monkeypatch.setenv("PORTRAIT_AUDIT", "1")
    with audit.attempt(asked):
        pass
    (log,) = hardware.state_folder().glob("*.jsonl")
    assert log == hardware.audit_path() and log.stat().st_mode & 0o777 == 0o600


def test_lines_of_many_threads_and_processes_stay_whole(log):
    environment = os.environ | {"PORTRAIT_AUDIT": str(log)}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(number)], cwd=ROOT, env=environment) for number in range(2)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    written = {(line["writer"], line["count"]) for line in lines(log)}
    assert len(lines(log)) == len(written) == 2 * 4 * 25


def test_lines_that_are_too_old_go_when_the_next_is_written(log, monkeypatch):
    log.parent.mkdir()
    log.write_text(line_of(91) + line_of(90.5) + line_of(89) + line_of(1))
    audit.record({"new": True})
    assert [line.get("days_ago") for line in lines(log)] == [89, 1, None]
    monkeypatch.setenv("PORTRAIT_AUDIT_DAYS", "7")
    audit.prune()
    assert [line.get("days_ago") for line in lines(log)] == [1, None]
    assert [path.name for path in log.parent.iterdir() if path.suffix != ".lock"] == [log.name]


@pytest.mark.parametrize("days", ["0", "-1", "seven", "1.5", "²"])
def test_a_retention_that_is_none_leaves_the_usual_one(days, monkeypatch):
    monkeypatch.setenv("PORTRAIT_AUDIT_DAYS", days)
    assert audit.keep_days() == audit.KEEP_DAYS


def test_a_line_after_one_that_a_power_cut_has_torn_is_whole(log):
    log.parent.mkdir()
    log.write_text(line_of(1) + '{"time": "2026-')
    audit.record({"new": True})
    first, torn, new = log.read_text("utf-8").splitlines()
    assert json.loads(first) and torn == '{"time": "2026-' and json.loads(new)["new"]


def test_a_place_where_nothing_can_be_written_is_told_and_breaks_nothing(asked, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PORTRAIT_AUDIT", str(tmp_path / "file" / "audit.jsonl"))
    with audit.attempt(asked) as entry:
        entry.output = asked.portrait
    audit.prune()
    assert "cannot be written" in caplog.text


def test_a_full_disk_is_told_and_leaves_whole_lines(asked, monkeypatch, small_disk, caplog):
    log = small_disk / "audit.jsonl"
    monkeypatch.setenv("PORTRAIT_AUDIT", str(log))
    audit.record({"filler": "x" * 3000})
    block = small_disk.stat().st_blksize
    with (small_disk / "rest").open("wb", buffering=0) as rest:
        while True:
            try:
                rest.write(b"x" * block)
            except OSError:
                break
    while "cannot be written" not in caplog.text:  # until the file's last block is full
        audit.record({"filler": "x" * 3000})
        assert len(log.read_text("utf-8")) < 10 * block
    assert all(line["filler"] for line in lines(log))


def test_a_log_that_another_program_holds_is_not_waited_for_long(log, asked, monkeypatch, caplog):
    log.parent.mkdir()
    monkeypatch.setattr(audit, "LOCK_SECONDS", 0.2)
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with FileLock(log.with_name(log.name + ".lock")):
            held.set()
            let_go.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    with audit.attempt(asked):
        pass
    let_go.set()
    holder.join()
    assert "cannot be written" in caplog.text and not log.exists()
