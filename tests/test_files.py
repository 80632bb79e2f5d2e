"""Files that are whole or not there, and what killed processes leave."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pipeline.errors import DiskFull, SpaceMissing
from pipeline.files import require_space, sweep_work_folders, work_folder, write_json, written_whole
from tests.server import ROOT


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "clip.bin"
    path.write_bytes(b"before")
    with written_whole(path) as part:
        part.write_bytes(b"after")
        assert path.read_bytes() == b"before" and part.parent == tmp_path
    assert path.read_bytes() == b"after" and list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "clip.bin"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_in_words(tmp_path: Path, number: int) -> None:
    with pytest.raises(DiskFull, match=rf"MiB are left at {tmp_path}"), written_whole(tmp_path / "a"):
        raise OSError(number, "full")


def test_another_trouble_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), written_whole(tmp_path / "a"):
        raise IsADirectoryError
    with pytest.raises(FileNotFoundError):
        write_json(tmp_path / "nowhere" / "a.json", {})


def test_json_reads_back_with_every_letter(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"text": "Œuvre d'été", "steps": [1, 2]})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"text": "Œuvre d'été", "steps": [1, 2]}


def test_room_is_asked_for_before_work_begins(tmp_path: Path) -> None:
    require_space(tmp_path, 1)
    with pytest.raises(SpaceMissing, match=r"^1099511627776 MiB are needed"):
        require_space(tmp_path, 2**60)


# --- what killed processes leave --------------------------------------------------------------------------------------

POSIX = pytest.mark.skipif(os.name != "posix", reason="where files can be locked by their names")
AN_HOUR = 3600


def killed_in(code: str, folder: Path) -> None:
    """A process that runs so much, in `folder`, and is then killed; and an hour passes."""
    script = f"import os, signal\nfrom pathlib import Path\nfrom pipeline import files\n{code}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - AN_HOUR,) * 2)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@POSIX
def test_the_next_to_write_a_file_deletes_what_a_killed_one_left_of_it_and_nothing_else(tmp_path: Path) -> None:
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    killed_in(f"with files.written_whole(Path('a.json')) as part: part.write_text('half'); {kill}", tmp_path)
    others = {"a.json.notours.part", "a.json.0123abcd.part.txt", "b.json.0123abcd.part"}
    for name in others:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - AN_HOUR,) * 2)
    assert len(names_in(tmp_path)) == 1 + len(others)
    write_json(tmp_path / "a.json", {})
    assert names_in(tmp_path) == others | {"a.json"}


@POSIX
def test_what_another_process_writes_now_is_left_alone_however_old_it_looks(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a.json") as part:
        for age in (AN_HOUR, -AN_HOUR):  # the latter of a clock that was set back
            os.utime(part, (time.time() - age,) * 2)
            write_json(tmp_path / "a.json", {"by": "another"})
            assert part.is_file()
        part.write_text("{}")
    assert names_in(tmp_path) == {"a.json"} and (tmp_path / "a.json").read_text() == "{}"


@POSIX
def test_a_work_folder_goes_with_its_block_or_with_the_next_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    killed_in(f"with files.work_folder('page-') as folder: (folder / 'face.png').touch(); {kill}", tmp_path)
    [left] = tmp_path.iterdir()
    assert left.name.startswith("portrait-parlant-page-")
    for name in ("portrait-parlant-jobs-0", "portrait-parlant-abc", "another"):  # no lock of ours in them
        (tmp_path / name).mkdir()
    with work_folder() as first, work_folder() as second:
        assert {first.name, second.name} < names_in(tmp_path) and left.name not in names_in(tmp_path)
        assert first.stat().st_mode & 0o077 == 0
        os.utime(first / ".in-use", (time.time() - AN_HOUR,) * 2)
        with work_folder():
            assert first.is_dir()
    assert names_in(tmp_path) == {"portrait-parlant-jobs-0", "portrait-parlant-abc", "another"}


def test_a_processs_own_work_folder_goes_with_it(tmp_path: Path) -> None:
    script = "from pipeline import files; (files.own_work_folder('page-') / 'face.png').touch(); raise SystemExit(143)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 143
    assert not any(tmp_path.iterdir())


@POSIX
def test_a_link_in_place_of_a_work_folder_leads_nowhere(tmp_path: Path, monkeypatch) -> None:
    precious, temporary = tmp_path / "precious", tmp_path / "temporary"
    for folder in (precious, temporary):
        folder.mkdir()
    (precious / ".in-use").touch()
    os.utime(precious / ".in-use", (time.time() - AN_HOUR,) * 2)
    (temporary / "portrait-parlant-abc").symlink_to(precious)
    (temporary / "portrait-parlant-def").mkdir()
    (temporary / "portrait-parlant-def" / ".in-use").symlink_to(precious / ".in-use")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    sweep_work_folders()
    assert len(names_in(temporary)) == 2 and names_in(precious) == {".in-use"}
