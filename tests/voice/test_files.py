"""Where Kokoro's network comes from, with the Hub's real client and a Hub on this computer."""

import contextlib
import hashlib
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from pipeline import files as disk
from pipeline.avatar import hub, loopback
from pipeline.errors import (
    CacheReadOnly,
    DownloadDamaged,
    FileMissing,
    HubLacks,
    HubOffline,
    HubUnreachable,
    SpaceMissing,
    VoiceFileUnknown,
)
from pipeline.voice import files

CONTENT = np.random.default_rng(5).bytes(600_000)  # stands for the 92 MB, under its own hash


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy is anywhere, and a small file stands for the Hub's."""
    monkeypatch.delenv("PORTRAIT_VOICES", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(files, "WHEELS", ("no_such_wheel",))
    small = files.Graph(files.ON_HUB.path, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(files, "ON_HUB", small)
    monkeypatch.setattr(files, "GRAPHS", (small, files.RELEASED))
    monkeypatch.setattr(hub, "LONGEST_PAUSE", 0.01)


@contextlib.contextmanager
def served(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes = CONTENT,
    answer: type[loopback.Answer] = loopback.Answer,
) -> Iterator[None]:
    """A Hub that has the file at the pinned commit."""
    file = tmp_path / "served" / files.ON_HUB.path
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with loopback.serve(tmp_path / "served", files.REPOSITORY, (files.REVISION,), answer) as server:
        monkeypatch.setattr(
            files, "_repository", lambda: hub.Repository(files.REPOSITORY, files.REVISION, server.url, token=False)
        )
        yield


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A whole copy under a name of the user's own."""
    path = tmp_path / "copy of a friend"
    path.write_bytes(CONTENT)
    return path


def test_the_wheels_hold_the_published_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert len(files.WHEELS) == 4 and all(importlib.util.find_spec(name) for name in files.WHEELS)
    monkeypatch.setattr(files, "_named", lambda path: iter(()))  # nothing but the wheels
    assert hashlib.sha256(files.read()).hexdigest() == files.RELEASED.sha256


def test_nothing_anywhere_is_said() -> None:
    assert files.found() is None
    with pytest.raises(FileMissing):
        files.read()


def test_a_download_is_counted_and_found_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path, monkeypatch):
        steps = list(files.fetch())
    assert {step.stage for step in steps} == {"StageFetchingVoice"}
    done = [step.done for step in steps]
    assert done == sorted(done) and done[-1] == steps[-1].total == len(CONTENT)
    assert files.read() == CONTENT
    assert list(files.fetch()) == []  # without a Hub


def test_a_closed_download_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    class Halved(loopback.Answer):
        """Sends half of the file and waits for the client to go away; then serves as usual."""

        def send_part(self, file: loopback.Served, begin: int, end: int) -> None:
            begun.append(begin)
            super().send_part(file, begin, (begin + end) // 2 if len(begun) == 1 else end)
            self.close_connection = True

    with served(tmp_path, monkeypatch, answer=Halved):
        download = files.fetch()
        while next(download).done == 0:
            pass
        download.close()
        assert files.found() is None
        list(files.fetch())
    assert begun[0] == 0 and begun[-1] > 0
    assert files.read() == CONTENT


def test_a_file_that_comes_wrong_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path, monkeypatch, bytes(len(CONTENT))), pytest.raises(DownloadDamaged):
        list(files.fetch())
    assert files.found() is None


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path, monkeypatch):
        list(files.fetch())
        (path,) = files.found() or ()
        path.write_bytes(bytes(len(CONTENT)))
        with pytest.raises(VoiceFileUnknown):
            files.read()
        list(files.fetch())
    assert files.read() == CONTENT


def test_no_network_no_file_and_no_permission_to_ask_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path, monkeypatch), monkeypatch.context() as patch:
        patch.setattr(files, "REVISION", "0" * 40)
        with pytest.raises(HubLacks):
            list(files.fetch())
    with pytest.raises(HubUnreachable):  # the server is gone
        list(files.fetch())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubOffline):
        list(files.fetch())


def test_no_room_is_said_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage)
    with served(tmp_path, monkeypatch), pytest.raises(SpaceMissing):
        list(files.fetch())
    with pytest.raises(SpaceMissing):
        files.adopt(whole)


def test_a_copy_is_taken_under_any_name_and_found_afterwards(whole: Path) -> None:
    kept = files.adopt(whole)
    whole.unlink()
    assert files.found() == (kept,) and files.read() == CONTENT


def test_a_copy_is_found_in_a_folder(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(FileMissing):
        files.adopt(tmp_path)
    whole.rename(tmp_path / "model_quantized.onnx")
    files.adopt(tmp_path)
    assert files.read() == CONTENT


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], bytes(len(CONTENT))])
def test_another_file_is_not_taken(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(VoiceFileUnknown, match=hashlib.sha256(content).hexdigest()[:12]):
        files.adopt(path)
    assert files.found() is None


def test_a_cache_that_is_no_folder_is_said(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(CacheReadOnly):
        files.adopt(whole)


def test_the_users_own_file_comes_first_and_a_wrong_one_does_not_stand_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    monkeypatch.setenv("PORTRAIT_VOICES", str(whole))
    assert files.found() == (whole,)
    files.adopt(whole)
    whole.write_bytes(bytes(len(CONTENT)))
    assert files.read() == CONTENT
    whole.write_bytes(CONTENT[:1000])
    assert files.found() != (whole,)
