"""The weights by the real client from a Hub on this computer, with the faults of a real network made on purpose."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants, hf_hub_download, scan_cache_dir

from pipeline import files
from pipeline.avatar import hub, licence, loopback, shards, tiny
from pipeline.avatar.hub import NAME, REVISION, Repository
from pipeline.avatar.loopback import Answer, LoopbackHub, Served
from pipeline.avatar.pipeline_hunyuan_avatar import HunyuanVideoAvatarPipeline
from pipeline.cli import DONE, REFUSED, STOPPED
from pipeline.errors import (
    AvatarError,
    CacheReadOnly,
    DiskFull,
    DownloadDamaged,
    HubForbids,
    HubLacks,
    HubOffline,
    HubUnreachable,
    LicenceNotAccepted,
    SpaceMissing,
)

PROJECT = Path(__file__).parents[2]
COMMITS = ("1" * 40, REVISION.ljust(40, "0"), "2" * 40)  # the pinned one is no longer the newest
LARGE = "ckpts/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states_fp8.pt"
SMALL = "ckpts/whisper-tiny/config.json"
LARGE_BYTES = 600_000  # several pieces
NEEDED = {  # path -> bytes; beside them lie files of the same folders that nobody needs
    LARGE: LARGE_BYTES,
    "ckpts/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states_fp8_map.pt": 900,
    "ckpts/hunyuan-video-t2v-720p/vae/config.json": 70,
    "ckpts/hunyuan-video-t2v-720p/vae/pytorch_model.pt": 90_000,
    "ckpts/llava_llama_image/config.json": 80,
    "ckpts/llava_llama_image/model-00001-of-00002.safetensors": 100_000,
    "ckpts/llava_llama_image/model-00002-of-00002.safetensors": 80_000,
    "ckpts/llava_llama_image/model.safetensors.index.json": 500,
    "ckpts/llava_llama_image/tokenizer.json": 3_000,
    "ckpts/text_encoder_2/config.json": 81,
    "ckpts/text_encoder_2/model.safetensors": 40_000,
    "ckpts/text_encoder_2/tokenizer.json": 2_000,
    "ckpts/text_encoder_2/vocab.json": 2_100,
    SMALL: 82,
    "ckpts/whisper-tiny/model.safetensors": 50_000,
    "ckpts/whisper-tiny/preprocessor_config.json": 83,
    "LICENSE": 15_000,
}
NOT_NEEDED = {
    "ckpts/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt": 700_000,
    "ckpts/text_encoder_2/pytorch_model.bin": 300_000,
    "ckpts/text_encoder_2/tf_model.h5": 300_000,
    "ckpts/text_encoder_2/.cache/model.safetensors": 300,
    "ckpts/det_align/detface.pt": 10_000,
    "assets/demo.png": 9_000,
    "README.md": 100,
}


class Faulty(Answer):
    """Notes what is asked and sent, and does wrong what the server's `faults` say, as often as they say."""

    server: "FaultyHub"

    def parse_request(self) -> bool:
        understood = super().parse_request()
        if understood:
            self.server.asked.append((self.path, dict(self.headers.items())))
        return understood

    def _answer(self, *, with_body: bool) -> None:
        for status, code in self.server.refusals[:1]:
            if self.server.refused(self.path):
                self.server.refusals = self.server.refusals[1:]
                self._refuse(status, code)
                return
        super()._answer(with_body=with_body)

    def send_part(self, file: Served, begin: int, end: int) -> None:
        fault = self.server.faults.get(file.path, [])
        kind = fault.pop(0) if fault else ""
        if kind == "cut":
            end = begin + (end - begin) // 2
        if kind == "hang":
            super().send_part(file, begin, begin + (end - begin) // 2)
            self.wfile.flush()
            self.server.hung.set()
            self.server.released.wait(60)
            return
        if kind == "wrong":
            self.wfile.write(b"\0" * (end - begin))
            return
        self.server.sent[file.path] += end - begin
        super().send_part(file, begin, end)
        if kind == "cut":
            self.close_connection = True


class FaultyHub(LoopbackHub):
    """See `Faulty`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, NAME, COMMITS, Faulty)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.sent: Counter[str] = Counter()
        self.faults: dict[str, list[str]] = {}
        self.refusals: list[tuple[HTTPStatus, str]] = []
        self.refused: Callable[[str], bool] = lambda path: True
        self.hung, self.released = threading.Event(), threading.Event()

    def fetched(self) -> list[str]:
        """The files that were asked for, in order."""
        return [path.split("/", 5)[5] for path, _ in self.asked if "/resolve/" in path]

    def ranges(self, path: str) -> list[str]:
        """Where the requests for a large file began."""
        return [headers["Range"] for asked, headers in self.asked if asked.endswith(str(self.files[path].sha256))]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the published layout with random bytes in it."""
    folder = tmp_path_factory.mktemp("published")
    random = np.random.default_rng(0)
    for name, size in {**NEEDED, **NOT_NEEDED}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(random.bytes(size))
    return folder


@pytest.fixture
def server(published: Path) -> Iterator[FaultyHub]:
    running = FaultyHub(published)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.released.set()
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def repository(server: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """The server's, kept in an empty cache, its licence accepted."""
    monkeypatch.setattr(hub, "LONGEST_PAUSE", 0.01)
    for name in ("PORTRAIT_ACCEPT_LICENCE", "PORTRAIT_WEIGHTS_REVISION"):
        monkeypatch.delenv(name, raising=False)
    made = Repository(endpoint=server.url, cache_dir=tmp_path / "home" / "hub", token=False)
    licence.accept(made.beside)
    return made


def is_the_same(folder: Path, published: Path, names: dict[str, int] = NEEDED) -> bool:
    """Whether a folder holds exactly these of the published files."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return there == set(names) and all(
        (folder / name).read_bytes() == (published / name).read_bytes() for name in names
    )


def run(server: FaultyHub, home: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`python -m pipeline weights` with an environment of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PORTRAIT_", "LC_"))}
    settings = {**inherited, "HF_ENDPOINT": server.url, "HF_HOME": str(home), "LANG": "en", **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "weights", *arguments],
        cwd=PROJECT,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- a download -------------------------------------------------------------------------------------------------------


def test_a_download_gets_the_needed_files_and_asks_for_no_other(
    server: FaultyHub, repository: Repository, published: Path
) -> None:
    told: list[tuple[int, int]] = []
    folder = hub.download(repository, on_progress=lambda done, total: told.append((done, total)))
    assert is_the_same(folder, published)
    assert sorted(server.fetched()) == sorted(NEEDED)
    assert told == sorted(told) and told[-1] == (sum(NEEDED.values()), sum(NEEDED.values()))
    assert hub.missing(repository) == [] and hub.bytes_missing(repository) == (0, True)


def test_the_bf16_transformer_comes_instead_of_the_fp8_one_when_asked_for(
    server: FaultyHub, repository: Repository
) -> None:
    hub.download(repository, "bf16")
    fetched = [name for name in server.fetched() if "/transformers/" in name]
    assert fetched == ["ckpts/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt"]
    with pytest.raises(ValueError, match="precision must be one of fp8, bf16, got 'int8'"):
        hub.download(repository, "int8")


def test_what_is_there_is_asked_for_no_more(server: FaultyHub, repository: Repository) -> None:
    hub.download(repository)
    server.asked.clear()
    told: list[int] = []
    hub.download(repository, on_progress=lambda done, total: told.append(done))
    assert server.asked == [] and told == []


def test_the_hubs_own_client_finds_what_was_downloaded_and_its_tools_see_nothing_odd(repository: Repository) -> None:
    folder = hub.download(repository)
    for name in NEEDED:
        found = hf_hub_download(
            NAME, name, revision=COMMITS[1], cache_dir=repository.cache_dir, local_files_only=True, token=False
        )
        assert Path(found) == folder / name
    scanned = scan_cache_dir(repository.cache_dir)
    assert not scanned.warnings and scanned.size_on_disk == sum(NEEDED.values())


def test_what_the_hubs_own_client_downloaded_is_not_downloaded_again(
    server: FaultyHub, repository: Repository, published: Path
) -> None:
    for name in (LARGE, SMALL):
        hf_hub_download(
            NAME, name, revision=COMMITS[1], cache_dir=repository.cache_dir, endpoint=server.url, token=False
        )
    server.asked.clear()
    assert is_the_same(hub.download(repository), published)
    assert not {LARGE, SMALL} & set(server.fetched())


def test_two_downloads_at_once_fetch_every_file_once(
    server: FaultyHub, repository: Repository, published: Path
) -> None:
    threads = [threading.Thread(target=hub.download, args=(repository,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_the_same(hub.folder(repository), published)
    assert server.sent == Counter(NEEDED)


# --- which commit -----------------------------------------------------------------------------------------------------


def test_the_pinned_commit_is_found_behind_newer_ones_and_kept_to(server: FaultyHub, repository: Repository) -> None:
    assert hub.listing(repository).commit == COMMITS[1] != COMMITS[0]
    server.commits = ("3" * 40,)
    assert hub.listing(repository).commit == COMMITS[1]


def test_a_branch_is_looked_up_once_and_kept_to(server: FaultyHub, repository: Repository) -> None:
    newest = dataclasses.replace(repository, revision="main")
    assert hub.listing(newest).commit == COMMITS[0]
    server.commits = ("3" * 40,)
    assert hub.listing(newest).commit == COMMITS[0]


def test_another_revision_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTRAIT_WEIGHTS_REVISION", "main")
    assert hub.published().revision == "main"
    monkeypatch.setenv("PORTRAIT_WEIGHTS_REVISION", "")
    assert hub.published().revision == REVISION


def test_before_the_hub_was_asked_the_size_is_an_estimate(server: FaultyHub, repository: Repository) -> None:
    estimated, known = hub.bytes_missing(repository)
    assert not known and 30e9 < estimated < 50e9 and server.asked == []
    hub.listing(repository)
    assert hub.bytes_missing(repository) == (sum(NEEDED.values()), True)


# --- a bad network ----------------------------------------------------------------------------------------------------


def test_after_a_cut_in_mid_file_only_the_rest_is_fetched(
    server: FaultyHub, repository: Repository, published: Path
) -> None:
    server.faults[LARGE] = ["cut", "cut"]
    assert is_the_same(hub.download(repository), published)
    half, quarter = LARGE_BYTES // 2, LARGE_BYTES * 3 // 4
    assert server.ranges(LARGE) == ["bytes=0-", f"bytes={half}-", f"bytes={quarter}-"]
    assert server.sent[LARGE] == LARGE_BYTES


def test_a_connection_cut_for_good_is_told_and_what_came_is_gone_on_with(
    server: FaultyHub, repository: Repository, published: Path
) -> None:
    server.refused = lambda path: "/large/" in path
    server.faults[LARGE] = ["cut"]
    hub.listing(repository)

    def refuse_after_the_cut(done: int, total: int) -> None:
        if done:
            server.refusals = [(HTTPStatus.SERVICE_UNAVAILABLE, "")] * hub.TRIES

    with pytest.raises(HubUnreachable, match="HTTP 503"):
        hub.download(repository, on_progress=refuse_after_the_cut)
    left, known = hub.bytes_missing(repository)
    assert known and left == sum(NEEDED.values()) - LARGE_BYTES // 2
    server.asked.clear()
    server.refusals = []
    assert is_the_same(hub.download(repository), published)
    assert server.ranges(LARGE) == [f"bytes={LARGE_BYTES // 2}-"] and server.sent[LARGE] == LARGE_BYTES


def test_killed_in_mid_file_another_process_fetches_only_the_rest(
    server: FaultyHub, tmp_path: Path, published: Path
) -> None:
    server.faults[LARGE] = ["hang"]
    running = run(server, tmp_path, "--download", "--accept-licence")
    assert server.hung.wait(60)
    unfinished = tmp_path / "hub" / "models--tencent--HunyuanVideo-Avatar" / "blobs"
    deadline = time.monotonic() + 20
    while not any(path.stat().st_size > LARGE_BYTES // 4 for path in unfinished.glob("*.incomplete")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.kill()
    running.communicate()
    (begun,) = (path.stat().st_size for path in unfinished.glob("*.incomplete"))
    repository = Repository(endpoint=server.url, cache_dir=tmp_path / "hub", token=False)
    assert is_the_same(hub.download(repository), published)
    assert server.ranges(LARGE) == ["bytes=0-", f"bytes={begun}-"] and server.sent[LARGE] == LARGE_BYTES - begun


def test_a_server_that_sends_the_whole_file_instead_of_the_rest_is_understood(
    server: FaultyHub, repository: Repository, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults[LARGE] = ["cut"]
    whole_file = Answer._file

    def ignoring_ranges(answer: Faulty, file: Served, headers: dict[str, str], *, with_body: bool) -> None:
        del answer.headers["Range"]
        whole_file(answer, file, headers, with_body=with_body)

    monkeypatch.setattr(Faulty, "_file", ignoring_ranges)
    assert is_the_same(hub.download(repository), published)


def test_a_busy_hub_is_asked_again(server: FaultyHub, repository: Repository, published: Path) -> None:
    hub.listing(repository)
    server.refusals = [(HTTPStatus.TOO_MANY_REQUESTS, ""), (HTTPStatus.BAD_GATEWAY, "")]
    assert is_the_same(hub.download(repository), published)


def test_no_connection_at_all_is_told(repository: Repository) -> None:
    nowhere = dataclasses.replace(repository, endpoint="http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        hub.listing(nowhere)


# --- hashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [LARGE, SMALL])
def test_a_file_that_comes_wrong_is_fetched_again(
    server: FaultyHub, repository: Repository, published: Path, name: str
) -> None:
    server.faults[name] = ["wrong"]
    assert is_the_same(hub.download(repository), published)
    assert server.fetched().count(name) == 2


@pytest.mark.parametrize("name", [LARGE, SMALL])
def test_a_file_that_comes_wrong_twice_is_refused_and_not_kept(
    server: FaultyHub, repository: Repository, published: Path, name: str
) -> None:
    server.faults[name] = ["wrong", "wrong"]
    with pytest.raises(DownloadDamaged, match=Path(name).name):
        hub.download(repository)
    assert not (hub.folder(repository) / name).exists()
    assert not list(repository.storage.glob("blobs/*.incomplete"))
    assert is_the_same(hub.download(repository), published), "a better network mends it"


def test_a_beginning_that_is_damaged_is_noticed_at_the_end_and_fetched_anew(
    server: FaultyHub, repository: Repository, published: Path
) -> None:
    known = hub.listing(repository)
    file = next(file for file in known.files if file.path == LARGE)
    begun = repository.storage / "blobs" / f"{file.digest}.incomplete"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"\0" * 1000)
    assert is_the_same(hub.download(repository), published)
    assert server.ranges(LARGE) == ["bytes=1000-", "bytes=0-"]


def test_a_file_damaged_on_the_disk_is_found_and_fetched_again(
    server: FaultyHub, repository: Repository, published: Path
) -> None:
    folder = hub.download(repository)
    told: list[tuple[int, int]] = []
    assert hub.check(repository, on_progress=lambda done, total: told.append((done, total))) == []
    assert told[-1] == (sum(NEEDED.values()), sum(NEEDED.values()))
    with (folder / LARGE).open("r+b") as file:
        file.seek(1000)
        file.write(b"no")
    assert [file.path for file in hub.check(repository)] == [LARGE]
    server.asked.clear()
    assert is_the_same(hub.download(repository), published)
    assert server.fetched() == [LARGE] and hub.check(repository) == []


def test_a_file_cut_short_on_the_disk_is_missing(server: FaultyHub, repository: Repository, published: Path) -> None:
    folder = hub.download(repository)
    os.truncate(folder / LARGE, 100)
    assert [file.path for file in hub.missing(repository)] == [LARGE]
    assert is_the_same(hub.download(repository), published)


# --- refusals of the Hub ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "error", "told"),
    [
        (HTTPStatus.UNAUTHORIZED, "", HubForbids, "HTTP 401"),
        (HTTPStatus.UNAUTHORIZED, "RepoNotFound", HubForbids, "HF_TOKEN"),
        (HTTPStatus.FORBIDDEN, "GatedRepo", HubForbids, "HTTP 403"),
        (HTTPStatus.NOT_FOUND, "RepoNotFound", HubLacks, NAME),
        (HTTPStatus.NOT_FOUND, "RevisionNotFound", HubLacks, REVISION),
    ],
)
def test_a_refusal_to_list_is_told_by_name(
    server: FaultyHub, repository: Repository, status: HTTPStatus, code: str, error: type[AvatarError], told: str
) -> None:
    server.refusals = [(status, code)]
    with pytest.raises(error, match=told):
        hub.listing(repository)
    assert hub.recorded(repository) is None


@pytest.mark.parametrize(
    ("status", "code", "error", "told"),
    [
        (HTTPStatus.UNAUTHORIZED, "", HubForbids, "HTTP 401"),
        (HTTPStatus.FORBIDDEN, "GatedRepo", HubForbids, "HTTP 403"),
        (HTTPStatus.NOT_FOUND, "EntryNotFound", HubLacks, "mp_rank_00_model_states_fp8.pt"),
    ],
)
def test_a_refusal_to_give_a_file_is_told_by_name_and_asked_for_once(
    server: FaultyHub, repository: Repository, status: HTTPStatus, code: str, error: type[AvatarError], told: str
) -> None:
    server.refused = lambda path: path.endswith(LARGE)
    server.refusals = [(status, code)]
    with pytest.raises(error, match=told):
        hub.download(repository)
    assert server.fetched() == [LARGE]


def test_a_repository_that_lacks_a_needed_file_is_refused_before_anything_is_downloaded(
    server: FaultyHub, repository: Repository
) -> None:
    server.files.pop("ckpts/llava_llama_image/tokenizer.json")
    with pytest.raises(HubLacks, match=r"ckpts/llava_llama_image/tokenizer\.json"):
        hub.download(repository)
    assert server.fetched() == []


def test_a_mirror_with_one_precision_alone_serves_for_that(
    server: FaultyHub, repository: Repository, published: Path
) -> None:
    server.files.pop("ckpts/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt")
    assert is_the_same(hub.download(repository), published)
    with pytest.raises(HubLacks, match=r"mp_rank_00_model_states\.pt"):
        hub.missing(repository, "bf16")


def test_a_commit_that_is_not_there_is_named(repository: Repository) -> None:
    with pytest.raises(HubLacks, match="abcdef0"):
        hub.listing(dataclasses.replace(repository, revision="abcdef0"))


# --- offline, disk, licence -------------------------------------------------------------------------------------------


def test_offline_what_is_there_serves_and_what_is_not_is_told(
    repository: Repository, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub.download(repository)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.download(repository) == folder and hub.missing(repository) == []
    (folder / SMALL).unlink()
    shutil.rmtree(repository.storage / "blobs")
    with pytest.raises(HubOffline, match="HF_HUB_OFFLINE"):
        hub.download(repository)
    shutil.rmtree(repository.beside)
    licence.accept(repository.beside)
    with pytest.raises(HubOffline, match=NAME):
        hub.download(repository)


def test_too_little_room_is_told_before_anything_is_downloaded(
    server: FaultyHub, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(PROJECT)._replace(free=sum(NEEDED.values()))  # no room for the converted ones
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SpaceMissing, match="2 MiB are needed"):
        hub.download(repository)
    assert server.fetched() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 500 KiB; it takes root to mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_disk_that_fills_up_is_told_and_what_came_is_gone_on_with(
    server: FaultyHub, repository: Repository, published: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = dataclasses.replace(repository, cache_dir=small_disk / "hub")
    licence.accept(full.beside)
    with pytest.raises(SpaceMissing, match=str(small_disk)):
        hub.download(full)
    monkeypatch.setattr(hub, "require_space", lambda folder, needed: None)  # as if it was filled by another meanwhile
    with pytest.raises(DiskFull, match="0 MiB are left"):
        hub.download(full)
    (begun,) = (path.stat().st_size for path in full.storage.glob("blobs/*.incomplete"))
    assert begun > 200_000
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    server.asked.clear()
    assert is_the_same(hub.download(full), published)
    assert server.ranges(LARGE) == [f"bytes={begun}-"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="to root nothing is read-only")
def test_a_cache_that_cannot_be_written_to_is_told(repository: Repository) -> None:
    assert repository.cache_dir is not None
    repository.cache_dir.mkdir()
    hub.listing(repository)
    repository.cache_dir.chmod(0o500)
    with pytest.raises(CacheReadOnly, match="HF_HOME"):
        hub.download(repository)


def test_nothing_is_asked_of_the_hub_before_the_licence_is_accepted(
    server: FaultyHub, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(repository.beside)
    with pytest.raises(LicenceNotAccepted, match="--accept-licence"):
        hub.download(repository)
    assert server.asked == []
    monkeypatch.setenv("PORTRAIT_ACCEPT_LICENCE", "1")
    hub.download(repository)


def test_new_terms_have_to_be_accepted_anew(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    assert licence.is_accepted(repository.beside)
    monkeypatch.setattr(licence, "TERMS", licence.TERMS + 1)
    assert not licence.is_accepted(repository.beside)
    licence.accept(repository.beside)
    assert licence.is_accepted(repository.beside)
    (repository.beside / licence.FILE).write_text("{", "utf-8")
    assert not licence.is_accepted(repository.beside)


# --- the command line, with the environment of the ecosystem ----------------------------------------------------------


def test_the_command_says_downloads_and_checks(server: FaultyHub, tmp_path: Path) -> None:
    def done(*arguments: str, **environment: str) -> tuple[int, str, str]:
        running = run(server, tmp_path, *arguments, **environment)
        return running.wait(60), *running.communicate()

    code, said, complaints = done("--download")
    assert (code, said) == (REFUSED, "") and "European Union" in complaints and "--accept-licence" in complaints
    assert server.asked == []
    code, said, _ = done("--download", "--accept-licence", HF_TOKEN="hf_secret")
    assert code == DONE and f"commit {COMMITS[1]}" in said and str(tmp_path / "hub") in said and "MISSING" not in said
    tokens = {path.split("/")[1]: headers.get("authorization") for path, headers in server.asked}
    assert tokens == {"api": "Bearer hf_secret", "tencent": "Bearer hf_secret", "large": None}

    server.asked.clear()
    code, said, _ = done("--check", HF_HUB_OFFLINE="1", LANG="fr")
    assert code == DONE and "Chaque fichier a l'empreinte" in said and server.asked == []
    blob = tmp_path / "hub" / "models--tencent--HunyuanVideo-Avatar" / "snapshots" / COMMITS[1] / SMALL
    blob.write_bytes(b"\0" * NEEDED[SMALL])
    code, said, _ = done("--check")
    assert code == REFUSED and f"Damaged: {SMALL}" in said
    blob.unlink()
    code, said, _ = done()
    assert code == REFUSED and "MISSING  ckpts/whisper-tiny" in said


def test_the_command_without_a_hub_says_so_and_estimates(server: FaultyHub, tmp_path: Path) -> None:
    running = run(server, tmp_path, HF_HUB_OFFLINE="1")
    said, complaints = running.communicate(timeout=60)
    assert (running.returncode, said) == (REFUSED, "")
    assert "HF_HUB_OFFLINE" in complaints and "About 44.5 GB" in complaints


@pytest.mark.skipif(os.name != "posix", reason="signals and terminals of POSIX")
def test_on_a_terminal_the_licence_is_asked_for_and_ctrl_c_keeps_what_came(server: FaultyHub, tmp_path: Path) -> None:
    server.faults[LARGE] = ["hang"]
    import fcntl
    import termios

    terminal, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))  # rows and columns
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), "LANG": "fr", "LC_ALL": ""}
    running = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "weights", "--download"],
        cwd=PROJECT, env=environment, stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    os.write(terminal, b"oui\n")
    assert server.hung.wait(60)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == STOPPED
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while piece := os.read(terminal, 65_536):
            shown += piece
    os.close(terminal)
    text = shown.decode()
    assert "L'acceptez-vous" in text and "Téléchargement des poids" in text and "Ce qui est fait est gardé" in text
    assert json.loads((tmp_path / licence.FOLDER / licence.FILE).read_text("utf-8"))["terms"] == licence.TERMS


# --- the tiny repository ----------------------------------------------------------------------------------------------


def test_the_tiny_repository_is_downloaded_converted_once_and_opened(tmp_path: Path) -> None:
    with tiny.served(tmp_path) as repository:
        folder = hub.download(repository)
    told: list[tuple[int, int]] = []
    assert not hub.is_converted(repository)
    converted = hub.convert(repository, on_progress=lambda done, total: told.append((done, total)))
    assert told and hub.is_converted(repository) and converted.is_relative_to(repository.beside)
    told.clear()
    assert hub.convert(repository, on_progress=lambda done, total: told.append((done, total))) == converted
    pipe = HunyuanVideoAvatarPipeline.from_published(
        folder, precision="fp8", converted=converted, on_progress=lambda done, total: told.append((done, total))
    )
    assert told == [] and pipe.transformer.config.in_channels == pipe.vae.config.latent_channels == 16


def test_the_tiny_repository_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = tiny.write_repository(tmp_path / "first"), tiny.write_repository(tmp_path / "second")
    hubs = [loopback.LoopbackHub(folder, NAME, (tiny.COMMIT,)) for folder in (first, second)]
    hashes = [{name: file.etag for name, file in one.files.items()} for one in hubs]
    for one in hubs:
        one.server_close()
    assert hashes[0] == hashes[1]


def test_a_small_file_is_known_by_gits_hash_of_it(tmp_path: Path) -> None:
    (tmp_path / "empty.json").touch()
    assert loopback.served("empty.json", tmp_path / "empty.json").etag == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def test_the_index_that_marks_a_conversion_is_that_of_the_shards() -> None:
    assert hub.INDEX == shards.INDEX
