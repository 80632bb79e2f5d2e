"""The certificate made on this computer, and the one that a user brings."""

import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from pipeline import hardware
from pipeline.errors import CertificateRefused
from pipeline.trust import certificates
from pipeline.trust.certificates import C2PA_SIGNING, identity, local_root
from pipeline.trust.credentials import Made, read, sign
from tests.trust.clips import make_certificate, make_clip, new_key, pem

PROJECT = Path(__file__).parents[2]
MADE = Made("draft", "", "0.1.0")
DAY = timedelta(days=1)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where the local certificate is kept."""
    return tmp_path / "state" / "portrait-parlant" / "signing" / "signing.pem"


@pytest.fixture
def bring(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Sets a user's own certificate and key."""

    def give(certificate: str, key: str) -> None:
        monkeypatch.setenv("PORTRAIT_SIGNING_CERTIFICATE", certificate)
        monkeypatch.setenv("PORTRAIT_SIGNING_KEY", key)

    return give


def certificate_of(chain: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificates(chain)[0]


# --- made on this computer ----------------------------------------------------------------------------------------


def test_it_is_made_on_first_use_for_nobody_elses_eyes_and_kept(kept):
    assert local_root() == "" and not kept.parent.exists(), "looking for it makes nothing"
    first = identity()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert identity() == first and first.is_local and first.notice is None
    assert local_root().encode() in first.chain


def test_it_is_valid_now_and_for_a_year_at_most():
    leaf, now = certificate_of(identity().chain), datetime.now(UTC)
    assert leaf.not_valid_before_utc < now < leaf.not_valid_after_utc
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(days=365)


def test_it_is_renewed_before_it_ends_under_the_same_root(kept, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(certificates, "LEAF_LIFE", certificates.RENEWED_BEFORE - DAY)
        first, root = identity(), local_root()
    second = identity()
    assert certificate_of(second.chain) != certificate_of(first.chain) and second.key != first.key
    assert local_root() == root and second.notice is None
    assert identity() == second


def test_a_root_that_would_end_first_is_renewed_with_it(monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(certificates, "ROOT_LIFE", 100 * DAY)
        earlier.setattr(certificates, "LEAF_LIFE", DAY)
        identity()
        root = local_root()
    identity()
    assert local_root() != root


def test_after_a_clock_was_set_back_it_is_made_anew(monkeypatch, tmp_path, portrait_path):
    with monkeypatch.context() as ahead:
        ahead.setattr(certificates, "CLOCK_SLACK", -2 * DAY)  # made by a clock that is two days ahead
        identity()
    clip = make_clip(tmp_path / "clip.mp4")
    assert sign(clip, MADE, portrait_path).is_signed and read(clip).is_local


@pytest.mark.parametrize("fault", ["empty", "garbage", "cut", "keys swapped", "another leaf", "no key"])
def test_a_damaged_file_is_made_anew_and_told(fault, kept, tmp_path, monkeypatch):
    identity()
    written = kept.read_text()
    root, root_key, leaf, leaf_key = (
        f"-----BEGIN{part}" for part in written.replace("-----BEGIN", "\0").split("\0")[1:]
    )
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    other_leaf = identity().chain.decode().split("-----BEGIN")[1]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    kept.write_text(
        {
            "empty": "",
            "garbage": "\x00garbage -----BEGIN CERTIFICATE-----",
            "cut": written[:900],
            "keys swapped": root + leaf_key + leaf + root_key,
            "another leaf": root + root_key + f"-----BEGIN{other_leaf}" + leaf_key,
            "no key": root + leaf,
        }[fault]
    )
    again = identity()
    assert again.notice is not None and "damaged" in again.notice.text("en")
    assert identity().notice is None and identity().chain == again.chain
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_file_that_others_could_read_is_closed(kept):
    identity()
    kept.chmod(0o644)
    identity()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_where_nothing_can_be_kept_clips_are_signed_all_the_same_and_it_is_told(tmp_path, monkeypatch, portrait_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    clip = make_clip(tmp_path / "clip.mp4")
    came = sign(clip, MADE, portrait_path)
    assert came.is_signed and came.notice is not None and "cannot be kept" in came.notice.text("en")
    assert read(clip).state == "valid" and not read(clip).is_local


def test_processes_that_start_at_once_share_one(kept, tmp_path):
    program = "from pipeline.trust.certificates import identity; print(hash(identity().chain))"
    environment = {"XDG_STATE_HOME": str(tmp_path / "state"), "PATH": "", "PYTHONHASHSEED": "0"}
    running = [
        subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, env=environment, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert len({process.communicate()[0] for process in running}) == 1
    assert all(process.returncode == 0 for process in running) and kept.exists()


def test_a_key_is_in_no_log():
    assert "PRIVATE" not in repr(identity())


# --- brought by the user ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "Ed25519", "RSA-2048"])
def test_a_users_own_certificate_signs(kind, bring, tmp_path, portrait_path, kept):
    chain, key, root = make_certificate(new_key(kind))
    bring(chain, key)
    clip = make_clip(tmp_path / "clip.mp4")
    came = sign(clip, MADE, portrait_path)
    assert came.is_signed and came.signer == "Studio Example" and not came.is_local and came.notice is None
    assert read(clip, root).state == "trusted" and read(clip, "").state == "valid"
    assert "Studio Example" in came.told[0].text("fr") and not kept.exists()


@pytest.mark.parametrize("use", certificates.SIGNER_USES)
def test_each_use_that_c2pa_knows_is_accepted(use, bring, tmp_path, portrait_path):
    chain, key, root = make_certificate(uses=[use])
    bring(chain, key)
    clip = make_clip(tmp_path / "clip.mp4")
    assert sign(clip, MADE, portrait_path).is_signed and read(clip, root).state == "trusted"


def test_it_comes_as_text_in_one_line_or_as_a_file(bring, tmp_path):
    chain, key, _ = make_certificate()
    bring(chain, key)
    whole = identity()
    bring(chain.replace("\n", "\\n"), key.replace("\n", "\\n"))
    assert identity() == whole
    for name, content in (("chain.pem", chain), ("key.pem", key)):
        (tmp_path / name).write_text(content)
    bring(str(tmp_path / "chain.pem"), str(tmp_path / "key.pem"))
    assert identity() == whole


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "ended": ({"begins": -40 * DAY, "lasts": 39 * DAY}, "it ended on", "il a pris fin le"),
    "not begun": ({"begins": DAY}, "begins on", "ne commence que le"),
    "without extended use": ({"uses": []}, "emailProtection", "emailProtection"),
    "for servers": ({"uses": ["1.3.6.1.5.5.7.3.1"]}, "emailProtection", "emailProtection"),
    "for programs": ({"uses": ["1.3.6.1.5.5.7.3.3"]}, C2PA_SIGNING, C2PA_SIGNING),
    "without use": ({"usage": None}, "digitalSignature", "digitalSignature"),
    "not for signing": ({"usage": False}, "digitalSignature", "digitalSignature"),
    "an authority": ({"is_authority": True}, "CA:FALSE", "CA:FALSE"),
    "without issuer's key": ({"names_issuer": False}, "authorityKeyIdentifier", "authorityKeyIdentifier"),
    "of a curve C2PA lacks": ({"key": new_key("secp256k1")}, "does not take", "n'accepte pas"),
    "of a short RSA key": ({"key": new_key("RSA-1024")}, "does not take", "n'accepte pas"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_certificate_that_c2pa_would_refuse_is_refused_in_words(fault, bring):
    changes, english, french = REFUSED[fault]
    chain, key, _ = make_certificate(**changes)
    bring(chain, key)
    with pytest.raises(CertificateRefused) as refused:
        identity()
    assert english in refused.value.text("en") and french in refused.value.text("fr")


def test_what_is_no_certificate_with_its_key_is_refused_in_words(bring, tmp_path):
    chain, key, root = make_certificate()
    private = new_key()
    locked = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")).decode()
    leaf = chain[: chain.index("-----END") + len("-----END CERTIFICATE-----\n")]
    (tmp_path / "picture.pem").write_bytes(bytes(range(256)))
    for certificate, its_key, told in (
        (chain, "", "one of them is missing"),
        ("", key, "one of them is missing"),
        (str(tmp_path / "gone.pem"), key, "gone.pem"),
        (str(tmp_path), key, "no file"),
        (str(tmp_path / "picture.pem"), key, "not a certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", key, "not a certificate in PEM"),
        (chain, chain, "not a private key"),
        (chain, locked, "password"),
        (chain, pem(new_key()), "another certificate"),
        (leaf + make_certificate()[2], key, "do not follow"),
    ):
        bring(certificate, its_key)
        with pytest.raises(CertificateRefused, match=told) as refused:
            identity()
        assert refused.value.text("fr") != refused.value.text("en") and "PRIVATE KEY-----\nM" not in str(refused.value)
    bring(leaf, key)
    assert identity().chain.count(b"BEGIN") == 1, "a root need not come along"
    assert root not in leaf


def test_doctor_says_who_signs_and_what_is_wrong_with_it(bring, kept):
    def told() -> list[tuple[str, bool | None]]:
        return [(finding.notice.text("en"), finding.good) for finding in hardware.examine()]

    assert any("made on this computer" in text and good for text, good in told()) and not kept.exists()
    bring(*make_certificate()[:2])
    assert ("clips are signed by Studio Example", True) in told()
    bring(*make_certificate(begins=DAY)[:2])
    assert any("begins on" in text and good is False for text, good in told())
