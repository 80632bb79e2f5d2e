"""Files that are whole or not there."""

import errno
import json
from pathlib import Path

import pytest

from pipeline.errors import DiskFull, SpaceMissing
from pipeline.files import require_space, write_json, written_whole


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
