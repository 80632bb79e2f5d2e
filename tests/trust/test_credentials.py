"""Content Credentials of finished clips: what is signed, what is not said, and what reading tells."""

import errno
import getpass
import json
import os
import random
import socket
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import c2pa
import pytest
from PIL import Image

from pipeline.errors import CertificateRefused, CredentialsFileTooLarge, CredentialsUnreadable, FileMissing
from pipeline.texts import TEXTS
from pipeline.trust import certificates, credentials
from pipeline.trust.credentials import Made, read, sign
from tests.trust.clips import boxes, decoded, encode_again, flipped, make_certificate, make_clip, remux

MADE = Made("draft", "", "0.1.0", {"seed": 7, "size": 256, "motion": 0.5, "mood": "happy"}, "artistic")
MOST_ADDED = 6 * 1024  # bytes; a thumbnail of a portrait takes twenty times as many
UNHASHED = {
    "ftyp",
    "free",
    "skip",
    "mfra",
}  # boxes that C2PA leaves out. Source: C2PA Technical Specification 2.2, 9.2.1


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that is not signed."""
    return make_clip(tmp_path_factory.mktemp("bare") / "bare.mp4")


@pytest.fixture
def clip(bare: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(bare.read_bytes())
    return path


@pytest.fixture
def signed(clip: Path, portrait_path: Path) -> Path:
    """A signed clip."""
    assert sign(clip, MADE, portrait_path).is_signed
    return clip


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """From here on it is another computer."""

    def go() -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another computer"))

    return go


def words(path: Path, language: str = "en") -> str:
    """All that is told of a file."""
    return "\n".join(notice.text(language) for notice in read(path).notices())


CREATED = {"action": "c2pa.created", "digitalSourceType": f"{credentials.SOURCE_TYPES}digitalCapture"}


def sign_foreign(
    source: Path, target: Path, definition: dict, kind: str, *, name: str = "Other Studio", remote: str = ""
) -> Path:
    """Sign as another program would."""
    chain, key, _ = make_certificate(name=name)
    assertions = [{"label": "c2pa.actions.v2", "data": {"actions": [CREATED]}}]
    builder = c2pa.Builder({"claim_generator_info": [{"name": "Other"}], "assertions": assertions, **definition})
    if remote:
        builder.set_no_embed()
        builder.set_remote_url(remote)
    info = c2pa.C2paSignerInfo(b"es256", chain.encode(), key.encode(), None)
    with source.open("rb") as read_from, target.open("w+b") as written, c2pa.Signer.from_info(info) as signer:
        builder.sign(signer, kind, read_from, written)
    return target


# --- what is signed -----------------------------------------------------------------------------------------------


def test_a_signed_clip_plays_as_before_and_is_valid(bare, clip, portrait_path):
    came = sign(clip, MADE, portrait_path)
    assert came.is_signed and came.is_local and came.notice is None
    (frames, sound), (frames_before, sound_before) = decoded(clip), decoded(bare)
    assert len(frames) == len(frames_before) and all((a == b).all() for a, b in zip(frames, frames_before, strict=True))
    assert (sound == sound_before).all()
    kinds = [kind for kind, _, _ in boxes(clip.read_bytes())]
    assert kinds.index("moov") < kinds.index("mdat"), "a page plays it while it loads"
    assert read(clip).state == "valid"


def test_the_credentials_say_how_the_clip_was_made(signed):
    said = read(signed)
    assert said.made == MADE
    assert [(one.name, one.source) for one in said.actions] == [("c2pa.created", "trainedAlgorithmicMedia")]
    assert said.ingredients == ("portrait (image/jpeg)",)
    for language, told in (("en", "AI-generated"), ("fr", "généré par IA")):
        assert told in words(signed, language) and "seed 7" in words(signed, language)


def test_the_avatars_model_and_revision_are_named(clip, portrait_path):
    sign(clip, Made("avatar", "tencent/HunyuanVideo-Avatar@8b8ab3e", "0.1.0"), portrait_path)
    assert "avatar (tencent/HunyuanVideo-Avatar@8b8ab3e)" in words(clip)


def test_signing_adds_a_few_kilobytes_and_no_picture(bare, signed):
    assert 0 < signed.stat().st_size - bare.stat().st_size < MOST_ADDED
    assert b"thumbnail" not in signed.read_bytes()


def test_nothing_of_the_portrait_or_the_computer_is_in_the_file(clip, tmp_path):
    portrait = tmp_path / "anna_at_home.jpg"
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = "Kitchen of Anna", "Photographer Bob"
    exif.get_ifd(0x8825).update({1: "N", 2: (46.0, 48.0, 50.7)})
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">xmp.did:annas-document</x:xmpmeta>'
    Image.new("RGB", (300, 300), "teal").save(portrait, exif=exif, xmp=xmp)
    sign(clip, MADE, portrait)
    content = clip.read_bytes().lower()
    for secret in (b"anna", b"kitchen", b"photographer", b"exif", b"gps", b"clip.mp4.", str(tmp_path).encode().lower()):
        assert secret not in content
    for name in (getpass.getuser(), socket.gethostname()):
        assert f"/{name}".lower().encode() not in content


def test_a_portraits_own_credentials_are_not_copied(clip, portrait_path, tmp_path):
    portrait = tmp_path / "portrait.jpg"
    sign_foreign(portrait_path, portrait, {"title": "Anna in the kitchen"}, "image/jpeg", name="Camera of Anna")
    assert read(portrait).signer == "Camera of Anna"
    sign(clip, MADE, portrait)
    assert read(clip).state == "valid" and b"Anna" not in clip.read_bytes()


def test_the_digital_source_type_is_plain_metadata_too(signed, bare, portrait_path, tmp_path):
    content = signed.read_bytes()
    kind, place, length = boxes(content)[-1]
    assert kind == "uuid" and content[place + 8 : place + 24] == credentials.XMP_UUID
    assert credentials.SOURCE_TYPE.encode() in content[place : place + length]
    assert read(signed).source == "trainedAlgorithmicMedia"


def test_settings_are_words_and_finite_numbers():
    values: list[Any] = [None, Path("anna.jpg"), float("nan"), ["a"]]
    for value in values:
        with pytest.raises(TypeError, match="settings"):
            Made("draft", "", "0.1.0", {"what": value})


def test_clips_are_signed_at_once_by_several_threads(bare, portrait_path, tmp_path):
    clips = [tmp_path / f"{number}.mp4" for number in range(8)]
    for one in clips:
        one.write_bytes(bare.read_bytes())
    came = {}
    threads = [
        threading.Thread(target=lambda one=one: came.update({one: sign(one, MADE, portrait_path)})) for one in clips
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(came[one].is_signed and read(one).is_local for one in clips)
    assert sorted(tmp_path.glob("*.mp4*")) == sorted(clips), "nothing else is left"


# --- when it cannot be signed -------------------------------------------------------------------------------------


def check_unsigned(came, clip, bare, folder):
    """The clip is whole, marked as generated all the same, and nothing else is left; the reasons told."""
    assert not came.is_signed and not came.signer
    assert clip.read_bytes().startswith(bare.read_bytes())
    assert (decoded(clip)[1] == decoded(bare)[1]).all()
    assert read(clip).state == "none"
    assert [one.name for one in folder.iterdir() if one.is_file()] == [clip.name]
    [told] = came.told
    assert told.text("en") != told.text("fr")
    return told.text("en"), told.text("fr")


def test_without_the_package_a_clip_ships_unsigned_and_says_so(clip, bare, portrait_path, tmp_path, monkeypatch):
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "c2pa", None)
        came = sign(clip, MADE, portrait_path)
    english, french = check_unsigned(came, clip, bare, tmp_path)
    assert "not signed" in english and "c2pa" in english and "pas signé" in french
    assert read(clip).source == "trainedAlgorithmicMedia", "what needs no package is there"


def test_a_refused_certificate_leaves_the_clip_unsigned(clip, bare, portrait_path, tmp_path, monkeypatch):
    chain, key, _ = make_certificate(begins=timedelta(days=-40), lasts=timedelta(days=30))
    with monkeypatch.context() as brought:
        brought.setenv("PORTRAIT_SIGNING_CERTIFICATE", chain)
        brought.setenv("PORTRAIT_SIGNING_KEY", key)
        came = sign(clip, MADE, portrait_path)
    english, french = check_unsigned(came, clip, bare, tmp_path)
    assert "it ended on" in english and "il a pris fin" in french


def test_a_full_disk_leaves_the_clip_unsigned(bare, portrait_path, small_disk):
    clip = small_disk / "clip.mp4"
    clip.write_bytes(bare.read_bytes())
    assert certificates.identity().is_local  # made beforehand, on the other disk
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        file.write(bytes(free - 8192))
    came = sign(clip, MADE, portrait_path)
    filler.unlink()
    english, french = check_unsigned(came, clip, bare, small_disk)
    assert "MiB" in english and "Mio" in french


def test_a_clip_is_as_before_when_the_plain_metadata_find_no_room(clip, bare, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            self.file.write(content[:100])
            self.file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *mode: Full(opened(path, *mode)))
    came = sign(clip, MADE, clip)
    monkeypatch.undo()
    assert not came.is_signed and clip.read_bytes() == bare.read_bytes()


def test_a_clip_that_is_no_mp4_is_left_as_it_is_and_told(portrait_path, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"no mp4 at all")
    came = sign(clip, MADE, portrait_path)
    assert not came.is_signed and clip.read_bytes().startswith(b"no mp4 at all")
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["clip.mp4"]


def test_a_time_stamp_that_cannot_be_had_is_told_and_the_clip_signed_without(clip, portrait_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/stamps"
    monkeypatch.setenv("PORTRAIT_TIME_STAMPS", address)  # where nobody answers any more
    came = sign(clip, MADE, portrait_path)
    assert came.is_signed and read(clip).state == "valid"
    assert came.notice is not None and address in came.notice.text("fr") and came.told[1] is came.notice


# --- whose it is --------------------------------------------------------------------------------------------------


def test_a_clip_of_this_computer_is_never_trusted_nor_verified(signed):
    said = read(signed)
    assert said.state == "valid" and said.is_local
    assert "made on this computer" in words(signed) and "faites sur cet ordinateur" in words(signed, "fr")


def test_no_text_on_credentials_calls_anything_verified():
    for key, text in TEXTS.items():
        if key.startswith(("Credentials", "ClipSigned", "CliVerify")):
            assert "verified" not in text.en.lower() and "vérifié" not in text.fr.lower()


def test_on_another_computer_the_signer_is_unknown(signed, elsewhere):
    elsewhere()
    said = read(signed)
    assert said.state == "valid" and not said.is_local and certificates.ORGANISATION in words(signed)
    assert "unknown" in words(signed) and "inconnu" in words(signed, "fr")


def test_another_computer_may_trust_the_root(signed, elsewhere, monkeypatch, tmp_path):
    root = certificates.local_root()
    elsewhere()
    assert read(signed, root).state == "trusted"
    assert read(signed, make_certificate()[2]).state == "valid"
    monkeypatch.setenv("PORTRAIT_TRUST_ANCHORS", root.replace("\n", "\\n"))  # a secret in one line
    assert read(signed).state == "trusted"
    (tmp_path / "roots.pem").write_text(make_certificate()[2] + root)
    monkeypatch.setenv("PORTRAIT_TRUST_ANCHORS", str(tmp_path / "roots.pem"))
    assert read(signed).state == "trusted" and "you trust" in words(signed)
    monkeypatch.setenv("PORTRAIT_TRUST_ANCHORS", str(tmp_path / "gone.pem"))
    with pytest.raises(CertificateRefused, match=r"gone\.pem"):
        read(signed)


def test_a_certificate_that_has_ended_since_is_told_and_is_no_tampering(clip, portrait_path, monkeypatch):
    chain, key, root = make_certificate(lasts=timedelta(days=1, seconds=1))
    monkeypatch.setenv("PORTRAIT_SIGNING_CERTIFICATE", chain)
    monkeypatch.setenv("PORTRAIT_SIGNING_KEY", key)
    assert sign(clip, MADE, portrait_path).is_signed
    assert read(clip, root).state == "trusted"
    time.sleep(2.1)
    said = read(clip, root)
    assert said.state == "valid" and said.is_expired and "outside its dates" in words(clip)


def test_a_certificate_that_was_not_made_for_clips_is_told_and_is_no_tampering(bare, tmp_path):
    of_theirs = "1.3.6.1.4.1.62558.99"  # a use that no standard knows
    chain, key, root = make_certificate(uses=[of_theirs])
    info = c2pa.C2paSignerInfo(b"es256", chain.encode(), key.encode(), None)
    definition = {"assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [CREATED]}}]}
    context = c2pa.Context.from_dict({"trust": {"trust_config": of_theirs}})  # of a program that is less strict
    path = tmp_path / "clip.mp4"
    with bare.open("rb") as source, path.open("w+b") as target, c2pa.Signer.from_info(info) as signer:
        c2pa.Builder(definition, context).sign(signer, "video/mp4", source, target)
    said = read(path, root)
    assert said.state == "valid" and "signingCredential.invalid" in words(path)
    assert read(flipped(path, path, path.stat().st_size // 2), root).state == "tampered"


# --- what has become of it ----------------------------------------------------------------------------------------


def test_a_changed_byte_of_picture_or_sound_is_noticed(signed, tmp_path):
    content = signed.read_bytes()
    places = [
        place
        for kind, start, length in boxes(content)
        if kind in ("moov", "mdat")
        for place in random.Random(start).sample(range(start + 8, start + length), 30)
    ]
    assert len(places) == 60
    for place in places:
        changed = flipped(signed, tmp_path / "changed.mp4", place)
        assert read(changed).state == "tampered", place
    assert "picture or the sound was changed" in words(flipped(signed, tmp_path / "changed.mp4", len(content) // 2))


def test_a_changed_byte_anywhere_never_makes_the_credentials_say_something_else(signed, tmp_path):
    content, said = signed.read_bytes(), read(signed)
    _, start, length = next(box for box in boxes(content) if box[0] == "uuid")
    for place in range(start, start + length, 23):
        changed = flipped(signed, tmp_path / "changed.mp4", place)
        try:
            now = read(changed)
        except CredentialsUnreadable:
            continue
        assert now == said or now.state in ("tampered", "none"), place
        assert now == said or (not now.signer and now.made is None and not now.actions), "nothing is repeated from it"


def test_damage_of_every_kind_is_an_answer_or_a_refusal(signed, tmp_path):
    content, said, damaged = signed.read_bytes(), read(signed), tmp_path / "damaged.mp4"
    draw = random.Random(5)
    for _ in range(150):
        changed, head = bytearray(content), next(start for kind, start, _ in boxes(content) if kind == "moov")
        for _ in range(draw.choice((1, 2, 8))):
            at, kind = draw.randrange(head), draw.randrange(4)
            noise = draw.choice((b"\xff" * 4, b"\0" * 4, b"\0\0\0\1", draw.randbytes(draw.randrange(1, 200))))
            changed[at : at + (0, 4, len(noise), 50)[kind]] = b"" if kind == 3 else noise
        damaged.write_bytes(changed)
        try:
            now = read(damaged)
        except CredentialsUnreadable:
            continue
        assert now.state in ("tampered", "none") or now == said
        assert all(notice.text("fr") for notice in now.notices())


def test_cut_short_or_prolonged_it_is_tampered_with(signed, tmp_path):
    content, changed = signed.read_bytes(), tmp_path / "changed.mp4"
    for other in (content[: len(content) * 2 // 3], content + b"\0\0\0\x10mdat12345678"):
        changed.write_bytes(other)
        assert read(changed).state == "tampered"


def test_remuxed_or_encoded_again_it_has_none(signed, bare, tmp_path):
    for other in (
        remux(signed, tmp_path / "remuxed.mp4"),
        remux(signed, tmp_path / "remuxed.mkv"),
        encode_again(signed, tmp_path / "again.mp4"),
    ):
        assert read(other).state == "none"
    assert read(tmp_path / "remuxed.mp4").source == "trainedAlgorithmicMedia", "our comment came along"
    assert "AI-generated" in words(tmp_path / "remuxed.mp4") and "anyone" in words(tmp_path / "remuxed.mp4")
    assert read(tmp_path / "again.mp4").source == ""
    assert read(bare).state == "none"


# --- somebody else's files ----------------------------------------------------------------------------------------


def test_a_picture_of_somebody_else_is_read_too(portrait_path, tmp_path):
    picture = sign_foreign(portrait_path, tmp_path / "picture.bin", {}, "image/jpeg")
    said = read(picture)
    assert said.state == "valid" and said.made is None and said.actions[0].source == "digitalCapture"
    assert "camera" in words(picture)


def test_what_a_strange_file_says_is_short_and_harmless(bare, tmp_path):
    evil = "\x1b]0;title\x07\x1b[2J\u202e" + "x" * 5000 + "\nContent Credentials: trusted."
    made = {"engine": evil, "model": [evil], "app_version": 7, "unlabelled": evil, "settings": {evil: evil, "n": [1]}}
    edits = {"softwareAgent": {"name": evil}, "digitalSourceType": evil}
    definition = {
        "title": evil,
        "ingredients": [{"title": evil, "format": "image/png", "relationship": "inputTo"} for _ in range(30)],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [CREATED, *[{"action": "c2pa.edited", **edits}] * 30]}},
            {"label": credentials.RENDER_LABEL, "data": made},
        ],
    }
    said = words(sign_foreign(bare, tmp_path / "evil.mp4", definition, "video/mp4", name="Other\x1b[31m\u202eStudio"))
    assert "[31m Studio" in said and len(said) < 12_000
    assert all(letter.isprintable() or letter == "\n" for letter in said)
    assert not any(line.startswith("Content Credentials: trusted") for line in said.splitlines())
    json.dumps(read(tmp_path / "evil.mp4").as_json())


def test_credentials_said_to_be_elsewhere_are_not_asked_for(bare, tmp_path):
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/credentials.c2pa"
        clip = sign_foreign(bare, tmp_path / "remote.mp4", {}, "video/mp4", remote=address)
        said = read(clip)
        with pytest.raises(TimeoutError):
            asked.append(server.accept())
    assert not asked and said.state == "none" and said.remote == address and address in words(clip, "fr")


def test_what_is_no_medium_is_refused_in_words(tmp_path, signed):
    for name, content in (("empty.mp4", b""), ("text.mp4", b"hello " * 99), ("noise.mp4", os.urandom(999))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CredentialsUnreadable, match=name):
            read(tmp_path / name)
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(b"\0\0\0\x20ftypisom" + bytes(20) + b"\0\0\xff\xffmoov" + bytes(30))
    with pytest.raises(CredentialsUnreadable, match="headless"):
        read(headless)


def test_media_that_cannot_carry_credentials_have_none(bare, portrait_path, tmp_path):
    with Image.open(portrait_path) as picture:
        picture.save(tmp_path / "picture.bmp")
    remux(bare, tmp_path / "clip.mkv")
    for name in ("picture.bmp", "clip.mkv"):
        said = read(tmp_path / name)
        assert said.state == "none" and not said.is_carrier and "this kind" in words(tmp_path / name)


def test_what_is_no_regular_file_or_too_large_is_refused(tmp_path):
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate((credentials.MAX_MEBIBYTES + 1) * 2**20)
    with pytest.raises(CredentialsFileTooLarge, match="large"):
        read(large)
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "gone.mp4", tmp_path, tmp_path / "pipe.mp4", Path("a\0b")):
        with pytest.raises(FileMissing):
            read(path)
