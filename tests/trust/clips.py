"""Clips of a second and certificates of every kind, for the tests of credentials."""

import datetime
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from pipeline.texts import LANGUAGES, say
from pipeline.trust.certificates import C2PA_SIGNING, EMAIL_PROTECTION

FPS = 25
SIZE = 96  # pixels
NUM_FRAMES = 12
DAY = datetime.timedelta(days=1)
DIGITAL_SIGNATURE, NO_USE = True, False


def make_clip(path: Path, *, comment: bool = True) -> Path:
    """Write NUM_FRAMES of a moving gradient with a tone, as `media.VideoWriter` arranges its files."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        if comment:
            container.metadata["comment"] = " · ".join(say("ClipComment", language) for language in LANGUAGES)
        picture = container.add_stream("libx264", rate=FPS, options={"crf": "18", "preset": "ultrafast"})
        picture.height, picture.width, picture.pix_fmt = SIZE, SIZE, "yuv420p"
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        across = np.arange(SIZE, dtype=np.uint8)
        for number in range(NUM_FRAMES):
            pixels = np.stack([np.add.outer(across, across), np.tile(across + 4 * number, (SIZE, 1))] * 2, axis=-1)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:, :, :3]), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(picture.encode(frame))
        samples = np.sin(np.arange(16_000 * NUM_FRAMES // FPS) / 9).astype(np.float32)[None] / 2
        tone = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        tone.sample_rate, tone.pts, tone.time_base = 16_000, 0, Fraction(1, 16_000)
        container.mux(sound.encode(tone))
        container.mux(picture.encode())
        container.mux(sound.encode())
    return path


def remux(source: Path, target: Path) -> Path:
    """Copy the streams and the tags into a new container."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        written.metadata.update(read.metadata)
        streams = {stream.index: written.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                written.mux(packet)
    return target


def encode_again(source: Path, target: Path, *, scale: float = 1.0, crf: int = 28) -> Path:
    """Decode and encode the picture."""
    with av.open(str(source)) as read, av.open(str(target), "w", format="mp4") as written:
        stream = read.streams.video[0]
        width, height = (2 * round(side * scale / 2) for side in (stream.width, stream.height))
        picture = written.add_stream("libx264", rate=FPS, options={"crf": str(crf)})
        picture.height, picture.width, picture.pix_fmt = height, width, "yuv420p"
        for frame in read.decode(video=0):
            written.mux(picture.encode(frame.reformat(width=width, height=height, format="yuv420p")))
        written.mux(picture.encode())
    return target


def flipped(source: Path, target: Path, place: int) -> Path:
    """A copy with one bit of one byte changed."""
    content = bytearray(source.read_bytes())
    content[place] ^= 1
    target.write_bytes(content)
    return target


def decoded(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """All frames and all sound."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    return frames, sound


def boxes(content: bytes) -> list[tuple[str, int, int]]:
    """Kind, place and length of an mp4's outer boxes."""
    found, place = [], 0
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        found.append((content[place + 4 : place + 8].decode("latin1"), place, length))
        place += length
    return found


def new_key(kind: str = "P-256") -> Any:
    """A private key of a kind."""
    curves: dict[str, Any] = {
        "P-256": ec.SECP256R1,
        "P-384": ec.SECP384R1,
        "P-521": ec.SECP521R1,
        "secp256k1": ec.SECP256K1,
    }
    if kind in curves:
        return ec.generate_private_key(curves[kind]())
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("RSA-")))


def pem(value: Any) -> str:
    """A certificate or a key, written."""
    if isinstance(value, x509.Certificate):
        return value.public_bytes(Encoding.PEM).decode()
    return value.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def make_certificate(
    key: Any = None,
    *,
    name: str = "Studio Example",
    uses: Sequence[str] = (EMAIL_PROTECTION, C2PA_SIGNING),
    usage: bool | None = DIGITAL_SIGNATURE,
    is_authority: bool = False,
    names_issuer: bool = True,
    begins: datetime.timedelta = -DAY,
    lasts: datetime.timedelta = 30 * DAY,
    root_key: Any = None,
) -> tuple[str, str, str]:
    """A leaf of a root: chain, key and root, PEM. Each argument takes one property away from what C2PA asks for.

    Args:
        key: Of the leaf; None for a new one.
        name: Organisation.
        uses: Extended key usage; empty leaves it out.
        usage: Whether it may sign; None leaves the key usage out.
        is_authority: The leaf is an authority.
        names_issuer: It has an authority key identifier.
        begins: From now.
        lasts: From its beginning.
        root_key: Who signs; None for a new one.
    """
    key, root_key = key or new_key(), root_key or new_key()
    now = datetime.datetime.now(datetime.UTC)

    def begun(subject: str, public_key: Any, first: datetime.timedelta, life: datetime.timedelta) -> Any:
        owner, issuer = (
            x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, one)]) for one in (subject, "Root Example")
        )
        dates = now + first, now + first + life
        return x509.CertificateBuilder(issuer, owner, public_key, x509.random_serial_number(), *dates)

    def usage_of(**allowed: bool) -> x509.KeyUsage:
        every = "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign"
        names = f"{every} crl_sign encipher_only decipher_only".split()
        return x509.KeyUsage(**{one: allowed.get(one, False) for one in names})

    root = begun("Root Example", root_key.public_key(), -400 * DAY, 4000 * DAY)
    root = root.add_extension(x509.BasicConstraints(True, None), True)
    root = root.add_extension(usage_of(key_cert_sign=True), True).sign(root_key, SHA256())
    leaf = begun(name, key.public_key(), begins, lasts)
    leaf = leaf.add_extension(x509.BasicConstraints(is_authority, None), True)
    if usage is not None:
        leaf = leaf.add_extension(usage_of(digital_signature=usage, key_encipherment=not usage), True)
    if uses:
        leaf = leaf.add_extension(x509.ExtendedKeyUsage([ObjectIdentifier(use) for use in uses]), False)
    if names_issuer:
        leaf = leaf.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False)
    leaf = leaf.sign(root_key, SHA256())
    return pem(leaf) + pem(root), pem(key), pem(root)
