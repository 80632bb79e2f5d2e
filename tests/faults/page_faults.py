"""The page killed and stopped in mid-clip, and its disk full: run by `make faults`, as they take half a minute."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.cli import TERMINATED
from tests.load.visitors import Visitor
from tests.server import Server, serve, wait_until

LONG_SECONDS = 120.0  # of voice: still being drawn when the signal comes
AGE_SECONDS = 3600  # that files of a killed page are given


def begin(server: Server, folder: Path) -> None:
    """A visitor whose clip is being drawn."""
    Visitor(server.url, 0, folder, LONG_SECONDS).submit()
    assert wait_until(lambda: any(server.folder.rglob("*.mp4")), 30)


def of_visitors(folder: Path) -> set[str]:
    """Names of files that may hold a face or a voice."""
    return {path.name for path in folder.rglob("*") if path.suffix in (".mp4", ".wav", ".jpg", ".png")}


def test_a_killed_page_leaves_no_clip_and_is_cleared_up_after_by_the_next_one(tmp_path):
    with serve(tmp_path) as killed:
        (tmp_path / "first").mkdir()
        begin(killed, tmp_path / "first")
        killed.process.send_signal(signal.SIGKILL)
        killed.process.wait(10)
        assert not any(path.name == "portrait-parlant.mp4" for path in killed.folder.rglob("*.mp4"))
        assert {"portrait.jpg", "voice.wav"} <= of_visitors(killed.folder)
        for path in killed.folder.rglob("*"):
            os.utime(path, (time.time() - AGE_SECONDS,) * 2)
    with serve(tmp_path) as again:
        left = of_visitors(again.folder)
        assert not {"portrait.jpg", "voice.wav"} & left and not any(name.endswith(".mp4") for name in left)
        (tmp_path / "second").mkdir()
        made = Visitor(again.url, 1, tmp_path / "second").visit()
        assert made.clip and not made.leaks
        assert again.has_cleared()


def test_a_stopped_page_leaves_nothing_of_its_visitors(tmp_path):
    with serve(tmp_path) as stopped:
        (tmp_path / "first").mkdir()
        begin(stopped, tmp_path / "first")
        stopped.process.send_signal(signal.SIGTERM)
        assert stopped.process.wait(20) == TERMINATED
        assert not stopped.work_folders() and not of_visitors(stopped.folder)


def test_a_page_whose_disk_fills_up_says_so_and_goes_on(small_disk, tmp_path):
    (tmp_path / "temporary").symlink_to(small_disk)
    with serve(tmp_path) as server:
        one, other = (
            Visitor(server.url, number, tmp_path, seconds) for number, seconds in ((1, LONG_SECONDS), (2, 0.48))
        )
        with ThreadPoolExecutor(1) as pool:
            visit = pool.submit(one.visit)
            assert wait_until(lambda: any(server.folder.rglob("*.mp4")), 30)
            filling, free = small_disk / "filling", os.statvfs(small_disk)
            filling.write_bytes(bytes(free.f_bavail * free.f_frsize))
            assert visit.result().refusal.startswith("The disk is full")
        assert server.has_cleared()
        filling.unlink()
        made = other.visit()
        assert made.clip and not made.leaks
