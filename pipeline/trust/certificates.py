"""Who signs: a certificate that the user brings, or a root and a leaf made on this computer. Signs no clip itself.

A certificate made here shows that a clip was not changed since; that it names us proves nothing to anybody else.
"""

import datetime
import itertools
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipeline import hardware
from pipeline.errors import CertificateRefused, DiskFull
from pipeline.files import written_whole
from pipeline.texts import LANGUAGES, Notice

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

FOLDER, FILE, LOCK = "signing", "signing.pem", "signing.lock"  # in the state folder; the file: root, key, leaf, key
LARGEST_FILE = 2**16  # bytes; a chain of three with RSA keys takes 6 KB
ORGANISATION = "Portrait Parlant (self-made certificate)"  # which verifiers show as who signed; X.509 allows 64 letters
ROOT_NAME, LEAF_NAME = "Portrait Parlant local root", "Portrait Parlant clip signer"
ROOT_LIFE = datetime.timedelta(days=3650)  # ten years: who trusts it need not do so again each year
LEAF_LIFE = datetime.timedelta(days=364)  # with CLOCK_SLACK one year, the longest that we allow ourselves
RENEWED_BEFORE = datetime.timedelta(days=30)  # of the leaf's end: a clip made now is to be good for a while
CLOCK_SLACK = datetime.timedelta(days=1)  # before now from which it is valid, as clocks are set back
LOCK_SECONDS = 10.0  # that another process may take to make one, which takes 10 ms
EMAIL_PROTECTION, C2PA_SIGNING = "1.3.6.1.5.5.7.3.4", "1.3.6.1.4.1.62558.2.1"
# What the certificate of who signs may be for: one of these. The SDK by itself takes the first alone; those on the C2PA
# trust list have the second. Source: C2PA Technical Specification 2.2, 14.5.1; c2pa-rs, store.cfg
SIGNER_USES = (
    EMAIL_PROTECTION,
    C2PA_SIGNING,
    "1.3.6.1.5.5.7.3.36",  # document signing
    "1.3.6.1.4.1.311.76.59.1.9",  # Microsoft's, for C2PA
)
KNOWN_USES = (*SIGNER_USES, "1.3.6.1.5.5.7.3.8", "1.3.6.1.5.5.7.3.9")  # and of who stamps times and tells revocations
MIN_RSA_BITS = 2048  # Source: C2PA Technical Specification 2.2, 14.5.1
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}  # to the names of C2PA's algorithms


@dataclass(frozen=True)
class Identity:
    """What a clip is signed with.

    Args:
        chain: Certificates in PEM, the leaf first.
        key: The leaf's private key, PKCS#8 in PEM, not encrypted.
        algorithm: C2PA's name of it: "es256" and others.
        name: Who signs, as the certificate has it.
        is_local: It was made on this computer.
        notice: What the user should know about it.
    """

    chain: bytes
    key: bytes
    algorithm: str
    name: str
    is_local: bool
    notice: Notice | None = None

    def __repr__(self) -> str:
        return f"Identity({self.name!r}, {self.algorithm}, is_local={self.is_local})"  # a key has no place in a log


@dataclass(frozen=True)
class _Pair:
    """A root and a leaf made here, with their keys."""

    root: "x509.Certificate"
    root_key: "ec.EllipticCurvePrivateKey"
    leaf: "x509.Certificate"
    leaf_key: "ec.EllipticCurvePrivateKey"


def identity() -> Identity:
    """The user's own certificate, or the local one, made or renewed where that is due (20 ms, else 2).

    Raises:
        CertificateRefused: the user's own cannot be used.
    """
    certificate, key = hardware.signing_certificate()
    return _brought(certificate, key) if certificate or key else _local()


def local_root() -> str:
    """The root made on this computer, PEM; "" where there is none. Makes none."""
    with suppress(OSError, RuntimeError):  # RuntimeError: nobody's home
        if pair := _kept(hardware.state_folder() / FOLDER / FILE):
            return _pem(pair.root).decode()
    return ""


def anchors(given: str) -> str:
    """The certificates that whoever checks a clip trusts.

    Args:
        given: PEM, or the name of a file of it; "" for none.

    Returns:
        PEM.

    Raises:
        CertificateRefused: it is neither.
    """
    if not given:
        return ""
    written = _content(given)
    _certificates(written)
    return written.decode()


# --- made on this computer ----------------------------------------------------------------------------------------


def _local() -> Identity:
    """The local certificate; one that is not kept, where nothing can be."""
    notice = None
    try:
        folder = hardware.state_folder() / FOLDER
        pair = _kept(folder / FILE)
        if pair is None or _is_due(pair.leaf, RENEWED_BEFORE):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(folder / LOCK, timeout=LOCK_SECONDS):
                pair = _kept(folder / FILE)  # another process may have made it meanwhile
                if pair is None and (folder / FILE).exists():
                    notice = Notice("CertificateRemade")
                if pair is None or _is_due(pair.leaf, RENEWED_BEFORE):
                    pair = _made(pair)
                    _keep(folder / FILE, pair)
    except (OSError, RuntimeError, DiskFull) as error:  # RuntimeError: nobody's home; a lock's Timeout is an OSError
        pair, detail = _made(None), getattr(error, "strerror", None) or type(error).__name__
        notice = Notice("CertificateNotKept", {"detail": detail})
    return Identity(_pem(pair.leaf) + _pem(pair.root), _pem(pair.leaf_key), "es256", ORGANISATION, True, notice)


def _made(earlier: _Pair | None) -> _Pair:
    """A new leaf, and a new root where the earlier one would end before it or was made by a clock that ran ahead."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

    if earlier is None or _is_due(earlier.root, LEAF_LIFE):
        root_key = ec.generate_private_key(ec.SECP256R1())
        built = _begun(ROOT_NAME, ROOT_NAME, root_key, ROOT_LIFE)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        root = _signed(built.add_extension(_usage("key_cert_sign", "crl_sign"), critical=True), root_key, root_key)
    else:
        root, root_key = earlier.root, earlier.root_key
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    built = _begun(LEAF_NAME, ROOT_NAME, leaf_key, LEAF_LIFE)
    built = built.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    built = built.add_extension(_usage("digital_signature"), critical=True)
    uses = [ExtendedKeyUsageOID.EMAIL_PROTECTION, ObjectIdentifier(C2PA_SIGNING)]
    built = built.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    return _Pair(root, root_key, _signed(built, leaf_key, root_key), leaf_key)


def _begun(
    subject: str, issuer: str, key: "ec.EllipticCurvePrivateKey", life: datetime.timedelta
) -> "x509.CertificateBuilder":
    """A certificate's names and dates. Of the computer and of who uses it, it says nothing."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    names = [
        x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
                x509.NameAttribute(NameOID.COMMON_NAME, common),
            ]
        )
        for common in (subject, issuer)
    ]
    now = datetime.datetime.now(datetime.UTC)
    return x509.CertificateBuilder(
        subject_name=names[0],
        issuer_name=names[1],
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - CLOCK_SLACK,
        not_valid_after=now + life,
    )


def _signed(
    built: "x509.CertificateBuilder", key: "ec.EllipticCurvePrivateKey", root_key: "ec.EllipticCurvePrivateKey"
) -> "x509.Certificate":
    """The certificate, saying which key it is for and which signed it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    built = built.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    return built.add_extension(issuer, critical=False).sign(root_key, SHA256())


def _usage(*allowed: str) -> "x509.KeyUsage":
    from cryptography import x509

    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: name in allowed for name in names.split()})


def _is_due(certificate: "x509.Certificate", before: datetime.timedelta) -> bool:
    """Whether it ends in less than `before`, or has not begun: the clock was ahead when it was made."""
    now = datetime.datetime.now(datetime.UTC)
    return not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - before


def _kept(path: Path) -> _Pair | None:
    """What is in the file; None where there is none, or nothing that belongs together.

    Raises:
        OSError: it is there and closed to us.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if stat.S_IMODE(status.st_mode) & 0o077:  # a copy or an unpacked archive: nobody else is to read it
        path.chmod(0o600)
    with path.open("rb") as file:
        written = file.read(LARGEST_FILE)
    try:
        root, leaf = x509.load_pem_x509_certificates(written)
        root_key, leaf_key = (
            load_pem_private_key(block, None)
            for block in re.findall(rb"-----BEGIN PRIVATE KEY-----.*?-----END PRIVATE KEY-----", written, re.DOTALL)
        )
        if not (isinstance(root_key, ec.EllipticCurvePrivateKey) and isinstance(leaf_key, ec.EllipticCurvePrivateKey)):
            return None
        root.verify_directly_issued_by(root)
        leaf.verify_directly_issued_by(root)
        if root_key.public_key() != root.public_key() or leaf_key.public_key() != leaf.public_key():
            return None
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return None
    return _Pair(root, root_key, leaf, leaf_key)


def _keep(path: Path, pair: _Pair) -> None:
    """Write the file, whole, for nobody else: its folder lets nobody in, and it is closed before it is filled."""
    parts = (pair.root, pair.root_key, pair.leaf, pair.leaf_key)
    with written_whole(path) as part:
        part.touch()
        part.chmod(0o600)
        part.write_bytes(b"".join(map(_pem, parts)))


def _pem(value: Any) -> bytes:
    """A certificate or a private key, written."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    if isinstance(value, x509.Certificate):
        return value.public_bytes(Encoding.PEM)
    written: bytes = value.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return written


# --- brought by the user ------------------------------------------------------------------------------------------


def _brought(certificate: str, key: str) -> Identity:
    """The user's own certificate, looked at as C2PA will.

    Raises:
        CertificateRefused: what is wrong with it.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not certificate or not key:
        raise _refused("CertificateHalf")
    chain = _certificates(_content(certificate))
    try:
        private = load_pem_private_key(_content(key), None)
    except TypeError as error:
        raise _refused("CertificateKeyLocked") from error
    except Exception as error:  # ValueError, UnsupportedAlgorithm, or what the library makes of other bytes
        raise _refused("CertificateKeyUnreadable") from error
    if private.public_key() != chain[0].public_key():
        raise _refused("CertificateKeyOther")
    algorithm = _algorithm(private)
    _check(chain)
    return Identity(b"".join(map(_pem, chain)), _pem(private), algorithm, _name(chain[0]), False)


def _content(given: str) -> bytes:
    """PEM as it was given, or what the file that was named holds."""
    if "-----BEGIN" in given:
        return given.replace("\\n", "\n").encode()  # as it stands in variables that hold one line
    try:
        path = Path(given)
        if not path.is_file():  # a pipe would be waited for
            raise _refused("CertificateFileMissing", name=path.name)
        with path.open("rb") as file:
            return file.read(LARGEST_FILE)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise _refused("CertificateFileMissing", name=path.name) from error


def _certificates(written: bytes) -> "list[x509.Certificate]":
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(written)
    except Exception as error:  # as for keys
        raise _refused("CertificateUnreadable") from error


def _algorithm(key: Any) -> str:
    """C2PA's name for how the key signs."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
        return "ps256"
    raise _refused("CertificateKeyKind")


def _check(chain: "list[x509.Certificate]") -> None:
    """Refuse what C2PA would, for the same reasons.

    Source: C2PA Technical Specification 2.2, 14.5.1, and c2pa-rs 0.91, one property changed at a time.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    leaf, now = chain[0], datetime.datetime.now(datetime.UTC)
    if now > leaf.not_valid_after_utc:
        raise _refused("CertificateExpired", day=leaf.not_valid_after_utc.date().isoformat())
    if now < leaf.not_valid_before_utc:
        raise _refused("CertificateNotYet", day=leaf.not_valid_before_utc.date().isoformat())
    try:
        for one, issuer in itertools.pairwise(chain):
            one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise _refused("CertificateChainBroken") from error
    has: dict[type, Any] = {}
    for extension in (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.AuthorityKeyIdentifier):
        with suppress(x509.ExtensionNotFound):
            has[extension] = leaf.extensions.get_extension_for_class(extension).value
    basic, usage, uses = has.get(x509.BasicConstraints), has.get(x509.KeyUsage), has.get(x509.ExtendedKeyUsage, ())
    if basic is not None and basic.ca:
        raise _refused("CertificateUnsuited", needed="CA:FALSE")
    if usage is None or not usage.digital_signature:
        raise _refused("CertificateUnsuited", needed="keyUsage digitalSignature")
    if not {use.dotted_string for use in uses} & set(SIGNER_USES):
        raise _refused("CertificateUnsuited", needed=f"extendedKeyUsage emailProtection, {C2PA_SIGNING}")
    if x509.AuthorityKeyIdentifier not in has:
        raise _refused("CertificateUnsuited", needed="authorityKeyIdentifier")


def _name(leaf: "x509.Certificate") -> str:
    """Who it says signs: its organisation, else its common name."""
    from cryptography.x509.oid import NameOID

    named = [
        str(one.value)
        for kind in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
        for one in leaf.subject.get_attributes_for_oid(kind)
    ]
    return named[0] if named else ""


def _refused(key: str, **values: str) -> CertificateRefused:
    reason = Notice(key, values)
    return CertificateRefused(**{f"reason_{language}": reason.text(language) for language in LANGUAGES})
