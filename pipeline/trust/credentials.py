"""Content Credentials (C2PA) of clips: signed into a finished mp4, and read from any file. Keeps no key, shows nothing.

They say how a clip was made and that it was not changed since. Of who made it they say what the certificate does.
"""

import contextlib
import datetime
import json
import logging
import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any

import av
import pillow_heif
from PIL import Image

from pipeline import hardware
from pipeline.boxes import promises_too_much
from pipeline.errors import AvatarError, CredentialsFileTooLarge, CredentialsUnreadable, FileMissing
from pipeline.files import full_disk_told, require_space, written_whole
from pipeline.media import PICTURE_FORMATS, SOUND_FORMATS
from pipeline.texts import LANGUAGES, Notice, say
from pipeline.trust import certificates
from pipeline.units import MEBIBYTE

NAME = "Portrait Parlant"
RENDER_LABEL = "portrait-parlant.render"  # of our own assertion: engine, model and settings
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"  # Source: IPTC NewsCodes, Digital Source Type
SOURCE_TYPE = f"{SOURCE_TYPES}trainedAlgorithmicMedia"
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # Source: Adobe, XMP Specification Part 3, MPEG-4
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""
OUR_COMMENT = " · ".join(say("ClipComment", language) for language in LANGUAGES)  # as media.VideoWriter writes it
MAX_MEBIBYTES = 512  # of a file that is checked, as of clips that are measured; hashing them takes two seconds
MOST_SHOWN = 10  # actions and ingredients: a file may name thousands
LONGEST_SHOWN = 200  # letters of what somebody else's file says
UNKNOWN_KIND = "application/octet-stream"  # Source: RFC 2046, 4.5.1
MANIFEST_ROOM = 2**16  # bytes; ours takes 4 KB, a long chain and a time stamp 20
IN_MEMORY_MB = 8  # of a clip that the SDK copies while it signs; the rest goes into a temporary file
BLOCK = 2**20  # bytes read at once
SIGNATURES = (b"jumb", b"c2pa")  # both are in every file with credentials, whole or not
# C2PA's codes. Source: C2PA Technical Specification 2.2, 15.2
UNTRUSTED, EXPIRED = "signingCredential.untrusted", "signingCredential.expired"
STAMPED, INTACT = "timeStamp.trusted", "claimSignature.validated"
OF_SIGNER = ("signingCredential.", "timeStamp.")  # failures of who signed: what was signed is as it was
CONTENT_CHANGED = ("assertion.bmffHash.mismatch", "assertion.dataHash.mismatch", "assertion.boxesHash.mismatch")
KNOWN_SOURCES = {
    "trainedAlgorithmicMedia": "SourceGenerated",
    "compositeWithTrainedAlgorithmicMedia": "SourceComposite",
    "algorithmicMedia": "SourceAlgorithmic",
    "digitalCapture": "SourceCamera",
}  # the last part of IPTC's address, and the text that explains it
KNOWN_ACTIONS = {
    "c2pa.created": "ActionCreated",
    "c2pa.opened": "ActionOpened",
    "c2pa.edited": "ActionEdited",
    "c2pa.converted": "ActionConverted",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """How a clip was made. Nothing about whom: no names of files, no words spoken.

    Args:
        engine: "draft" or "avatar".
        model: Name and revision of the model; "" where there is none.
        app_version: Of this program.
        settings: Finite numbers and short words, by the names of a request.
        unlabelled: The reason stated for leaving out the visible label; "" where the clip has one.
    """

    engine: str
    model: str
    app_version: str
    settings: Mapping[str, str | int | float] = field(default_factory=dict)
    unlabelled: str = ""

    def __post_init__(self) -> None:
        for name, value in self.settings.items():
            if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
                raise TypeError(f"settings must be words and finite numbers; {name} is {value!r}")


@dataclass(frozen=True)
class Signed:
    """What came of signing a clip.

    Args:
        is_signed: It has credentials.
        signer: Who signed it, as the certificate says; "" where nobody did.
        is_local: By the certificate made on this computer, for which nobody vouches.
        notice: Why it is not signed, or not as it was to be.
    """

    is_signed: bool
    signer: str = ""
    is_local: bool = False
    notice: Notice | None = None

    @property
    def told(self) -> tuple[Notice, ...]:
        """What to tell the user in any case; never that a clip is "verified"."""
        notices = () if self.notice is None else (self.notice,)
        if not self.is_signed:
            return notices
        return (Notice("ClipSignedLocal") if self.is_local else Notice("ClipSigned", {"signer": self.signer}), *notices)


@dataclass(frozen=True)
class Action:
    """One thing that was done, as the credentials declare it.

    Args:
        name: "c2pa.created" and others.
        source: The last part of IPTC's address of the digital source type; "" where there is none.
        software: By what.
        when: ISO 8601, as declared.
    """

    name: str
    source: str = ""
    software: str = ""
    when: str = ""


@dataclass(frozen=True)
class Credentials:
    """What a file's Content Credentials say, as far as they hold.

    Args:
        state: "trusted": as it was signed, and the user trusts who vouches for the signer. "valid": as it was signed,
            by whoever. "tampered": not as it was signed. "none".
        signer: Who signed, as the certificate says.
        is_local: The certificate was made on this computer; such a state is "valid", never "trusted".
        is_expired: The certificate has ended, and no time stamp tells that the file was signed before.
        signed_at: ISO 8601, by the stamp of somebody whom the user trusts for that; "" without one.
        made: How, if it is a clip of ours.
        actions: What was done.
        ingredients: What it was made from.
        reasons: C2PA's codes of what does not hold.
        remote: Address at which the credentials are said to be. It is not asked.
        source: Digital source type by the file's plain metadata, XMP or our comment, which anybody can write.
        is_carrier: Files of this kind can carry credentials.
    """

    state: str
    signer: str = ""
    is_local: bool = False
    is_expired: bool = False
    signed_at: str = ""
    made: Made | None = None
    actions: tuple[Action, ...] = ()
    ingredients: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    remote: str = ""
    source: str = ""
    is_carrier: bool = True

    def notices(self) -> Iterator[Notice]:
        """All of it in plain words, one sentence at a time, the verdict first."""
        if self.state == "trusted":
            yield Notice("CredentialsTrusted", {"signer": self.signer})
        elif self.state == "valid":
            yield Notice("CredentialsLocal") if self.is_local else Notice("CredentialsValid", {"signer": self.signer})
        elif self.state == "tampered":
            changed = any(reason.startswith(CONTENT_CHANGED) for reason in self.reasons)
            yield Notice("CredentialsContentChanged" if changed else "CredentialsChanged")
        elif self.remote:
            yield Notice("CredentialsRemote", {"address": self.remote})
        else:
            yield Notice("CredentialsNone" if self.is_carrier else "CredentialsNotCarried")
        if self.is_expired:
            yield Notice("CredentialsExpired")
        if faults := [one for one in self.reasons if one.startswith(OF_SIGNER) and one not in (UNTRUSTED, EXPIRED)]:
            yield Notice("CredentialsFaulty", {"codes": ", ".join(faults[:MOST_SHOWN])})
        if self.signed_at:
            yield Notice("CredentialsStamped", {"time": self.signed_at})
        for action in self.actions[:MOST_SHOWN]:
            values = _explained("action", KNOWN_ACTIONS, action.name) | _explained(
                "source", KNOWN_SOURCES, action.source
            )
            yield Notice("CredentialsAction", {"software": action.software or "?", **values})
        if self.ingredients:
            yield Notice("CredentialsIngredients", {"names": ", ".join(self.ingredients[:MOST_SHOWN])})
        if self.made is not None:
            settings = ", ".join(f"{name} {value}" for name, value in self.made.settings.items())
            model = f" ({self.made.model})" if self.made.model else ""
            values = {"version": self.made.app_version, "engine": self.made.engine + model, "settings": settings or "–"}
            yield Notice("CredentialsMade", values)
            if self.made.unlabelled:
                yield Notice("CredentialsUnlabelled", {"reason": self.made.unlabelled})
        if self.source and not self.actions:
            yield Notice("CredentialsPlain", _explained("source", KNOWN_SOURCES, self.source))

    def as_json(self) -> dict[str, Any]:
        """The same as values of JSON."""
        return asdict(self)


# --- signing ------------------------------------------------------------------------------------------------------


def sign(clip: Path, made: Made, portrait: Path) -> Signed:
    """Sign a finished mp4 in its place, as the last thing that is done to it.

    The portrait is named as what the clip was made from, by its format alone: no thumbnail, name, EXIF, place, nor the
    credentials that it may carry itself, as these may hold all of that.

    Args:
        clip: The mp4. It is replaced at once by the signed one; when that fails it stays whole, unsigned.
        made: How it was made.
        portrait: The picture that it was made from.

    Returns:
        Who signed, or why nobody did: whatever goes wrong with signing is no reason to lose a clip.
    """
    try:
        _mark_as_generated(clip)
        identity = certificates.identity()
        notice = identity.notice
        address = hardware.time_stamp_address()
        try:
            _write(clip, made, portrait, identity, address)
        except Exception as error:
            if not address:
                raise
            log.warning("no time stamp: %s", error)
            _write(clip, made, portrait, identity, "")
            notice = Notice("ClipNotStamped", {"address": address})
    except AvatarError as error:
        return Signed(False, notice=_unsigned({one: error.text(one) for one in LANGUAGES}))
    except ImportError as error:
        missing = Notice("SigningMissing", {"package": error.name or "c2pa-python"})
        return Signed(False, notice=_unsigned({one: missing.text(one) for one in LANGUAGES}))
    except Exception as error:  # a C2paError, a full disk, a library that does not load: whatever it is, it is told
        log.warning("a clip could not be signed", exc_info=True)
        detail = _shown(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        return Signed(False, notice=_unsigned(dict.fromkeys(LANGUAGES, detail)))
    return Signed(True, identity.name, identity.is_local, notice)


def _unsigned(reasons: dict[str, str]) -> Notice:
    return Notice("ClipNotSigned", {f"reason_{language}": reason for language, reason in reasons.items()})


def _mark_as_generated(clip: Path) -> None:
    """Add the digital source type as plain metadata: an XMP box at the end, which moves nothing else.

    Raises:
        DiskFull, OSError: the clip is as it was.
    """
    packet = XMP.encode()
    box = struct.pack(">I4s", 8 + len(XMP_UUID) + len(packet), b"uuid") + XMP_UUID + packet
    with full_disk_told(clip.parent), clip.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        try:
            file.write(box)
            file.flush()
        except OSError:
            file.truncate(size)
            raise


def _write(clip: Path, made: Made, portrait: Path, identity: certificates.Identity, address: str) -> None:
    """Sign into another file of the same folder, check it, and put it in the clip's place.

    Raises:
        ImportError, RuntimeError: c2pa-python or its library is not here.
        C2paError, AvatarError, OSError: it could not be signed; the clip is as it was.
    """
    import c2pa

    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = {"name": NAME, "version": made.app_version}
    created = {
        "action": "c2pa.created",
        "when": when,
        "softwareAgent": {**name, "name": f"{NAME}, {made.engine}"},
        "digitalSourceType": SOURCE_TYPE,
        "parameters": {"ingredientIds": ["portrait"]},
    }
    manifest = {
        "claim_generator_info": [name],
        "title": "clip.mp4",  # never the file's own name, which may be somebody's
        "format": "video/mp4",
        # no stream is given with it, so that the SDK finds nothing to copy
        "ingredients": [
            {
                "title": "portrait",
                "format": _kind(portrait),
                "relationship": "inputTo",
                "instance_id": "xmp:iid:portrait",
                "label": "portrait",
            }
        ],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": RENDER_LABEL, "data": {**asdict(made), "settings": dict(made.settings)}},
        ],
    }
    require_space(clip.parent, clip.stat().st_size + MANIFEST_ROOM)  # of a full disk the SDK says nothing
    info = c2pa.C2paSignerInfo(identity.algorithm.encode(), identity.chain, identity.key, address.encode() or None)
    with (
        written_whole(clip) as part,
        c2pa.Context.from_dict(_settings()) as context,
        c2pa.Builder(manifest, context) as builder,
        c2pa.Signer.from_info(info) as signer,
        clip.open("rb") as source,
        part.open("w+b") as target,
    ):
        builder.sign(signer, "video/mp4", source, target)  # and checks what it wrote


def _settings(user_anchors: str = "", trust_anchors: str = "") -> dict[str, Any]:
    """How the SDK is to work: nothing is asked on the network, no thumbnails."""
    given = {"user_anchors": user_anchors, "trust_anchors": trust_anchors}
    return {
        "builder": {"thumbnail": {"enabled": False}},
        "core": {"backing_store_memory_threshold_in_mb": IN_MEMORY_MB},
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        "trust": {
            "trust_config": "\n".join(certificates.KNOWN_USES),
            **{key: pem for key, pem in given.items() if pem},
        },
    }


def _kind(picture_path: Path) -> str:
    """A picture's MIME type, by its content; UNKNOWN_KIND for what is none."""
    pillow_heif.register_heif_opener()
    with contextlib.suppress(Exception), Image.open(picture_path, formats=PICTURE_FORMATS) as picture:
        return picture.get_format_mimetype() or UNKNOWN_KIND
    return UNKNOWN_KIND


# --- reading ------------------------------------------------------------------------------------------------------


def read(path: Path, anchors: str | None = None) -> Credentials:
    """What a file's credentials say, whoever made it. Nothing is asked on the network.

    Args:
        path: Any file.
        anchors: Root certificates that the user trusts, PEM; None for those that PORTRAIT_TRUST_ANCHORS names.

    Raises:
        FileMissing, CredentialsFileTooLarge, CredentialsUnreadable.
        CertificateRefused: the trusted certificates cannot be read.
        ImportError, RuntimeError: c2pa-python or its library is not here.
    """
    import c2pa

    path = Path(path)
    name = path.name or str(path)
    trusted = certificates.anchors(hardware.trust_anchors()) if anchors is None else anchors
    settings = _settings(certificates.local_root(), trusted)
    with _opened(path, name) as file, c2pa.Context.from_dict(settings) as context:
        tags, plain = _tags(path), _plain_source(file)
        if not plain and tags is not None and tags.get("comment") == OUR_COMMENT:
            plain = SOURCE_TYPE.rpartition("/")[2]
        file.seek(0)
        try:
            reader = c2pa.Reader.try_create(None, file, context=context)
        except c2pa.C2paError.NotSupported as error:
            if tags is None and _kind(path) == UNKNOWN_KIND:
                raise CredentialsUnreadable(name=name) from error
            return Credentials("none", source=plain, is_carrier=False)
        except c2pa.C2paError as error:
            if str(error).startswith("Remote"):
                return Credentials("none", remote=_shown(str(error).rpartition(" ")[2]), source=plain)
            if not _has_signatures(file):
                raise CredentialsUnreadable(name=name) from error
            return Credentials("tampered", reasons=(_shown(str(error)),), source=plain)
        if reader is None:
            return Credentials("none", source=plain)
        with reader:
            store = _mapping(json.loads(reader.json()))  # at once: the SDK's own getters raise where a part is missing
    results, state = _mapping(store.get("validation_results")), store.get("validation_state")
    manifest = _mapping(_mapping(store.get("manifests")).get(str(store.get("active_manifest"))))
    checked = _mapping(results.get("activeManifest"))
    reasons = _codes(checked.get("failure"))
    for delta in _list(results.get("ingredientDeltas")):
        reasons += _codes(_mapping(_mapping(delta).get("validationDeltas")).get("failure"))
    is_intact = INTACT in _codes(checked.get("success")) and all(reason.startswith(OF_SIGNER) for reason in reasons)
    if state not in ("Valid", "Trusted") and not is_intact:
        return Credentials("tampered", reasons=tuple(reasons), source=plain)
    signature = _mapping(manifest.get("signature_info"))
    is_local = state == "Trusted" and results.get("trustListUri") == "user_anchors"
    return Credentials(
        state="trusted" if state == "Trusted" and not is_local else "valid",
        signer=_shown(signature.get("issuer")) or _shown(signature.get("common_name")),
        is_local=is_local,
        is_expired=EXPIRED in reasons,
        signed_at=_shown(signature.get("time")) if STAMPED in _codes(checked.get("success")) else "",
        made=_made_of(manifest),
        actions=tuple(_actions(manifest)),
        ingredients=tuple(_ingredients(manifest)),
        reasons=tuple(reasons),
        source=plain,
    )


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    """A regular file of a bounded size.

    Raises:
        FileMissing, CredentialsFileTooLarge.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise FileMissing(name=name)
        file = path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise FileMissing(name=name) from error
    with file:
        if status.st_size > MAX_MEBIBYTES * MEBIBYTE:
            raise CredentialsFileTooLarge(
                name=name, mebibytes=status.st_size // MEBIBYTE, limit_mebibytes=MAX_MEBIBYTES
            )
        yield file


def _plain_source(file: IO[bytes]) -> str:
    """The last part of the digital source type in an mp4's XMP boxes; "" where there is none."""
    place, size = 0, file.seek(0, os.SEEK_END)
    while place + 8 <= size:
        file.seek(place)
        head = file.read(24)
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) >= 16:  # of more than 4 GB
            length = int.from_bytes(head[8:16], "big")
        if kind == b"uuid" and head[8:24] == XMP_UUID:
            _, found, rest = file.read(min(length, BLOCK)).partition(SOURCE_TYPES.encode())
            return _shown(rest[:64].split(b'"')[0].split(b"<")[0].decode("ascii", "replace")) if found else ""
        if length < 8:  # the last one, or no mp4
            return ""
        place += length
    return ""


def _tags(path: Path) -> dict[str, str] | None:
    """The tags of a sound or a video, by their names in small letters; None for what is neither."""
    options = {"format_whitelist": ",".join(SOUND_FORMATS.split()), "protocol_whitelist": "file"}
    try:
        with path.open("rb") as file:
            if promises_too_much(file, path.stat().st_size):
                return None
        with av.open(f"file:{path.absolute()}", "r", options=options, metadata_errors="replace") as container:
            return {name.lower(): value for name, value in container.metadata.items()}
    except (av.error.FFmpegError, OSError, ValueError):
        return None


def _has_signatures(file: IO[bytes]) -> bool:
    """Whether there are remains of credentials in it."""
    missing, end = set(SIGNATURES), b""
    file.seek(0)
    while missing and (block := file.read(BLOCK)):
        missing -= {one for one in missing if one in end + block}
        end = block[-4:]
    return not missing


def _assertions(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Label and content of each, as far as they are what they should be."""
    for assertion in _list(manifest.get("assertions")):
        yield str(_mapping(assertion).get("label")), _mapping(_mapping(assertion).get("data"))


def _made_of(manifest: Mapping[str, Any]) -> Made | None:
    """How it was made, from our own assertion; None where there is none, or not as we write it."""
    for label, data in _assertions(manifest):
        if label == RENDER_LABEL and {one.name for one in fields(Made)} <= data.keys():
            settings = {
                _shown(name): _shown(value) if isinstance(value, str) else value
                for name, value in list(_mapping(data["settings"]).items())[:LONGEST_SHOWN]
                if isinstance(value, str | int | float)
            }
            words = {name: _shown(data[name]) for name in ("engine", "model", "app_version", "unlabelled")}
            return Made(settings=settings, **words)
    return None


def _actions(manifest: Mapping[str, Any]) -> Iterator[Action]:
    for label, data in _assertions(manifest):
        if label.startswith("c2pa.actions"):
            for action in map(_mapping, _list(data.get("actions"))):
                agent = action.get("softwareAgent")
                yield Action(
                    name=_shown(action.get("action")),
                    source=_shown(action.get("digitalSourceType")).rpartition("/")[2],
                    software=_shown(agent if isinstance(agent, str) else _mapping(agent).get("name")),
                    when=_shown(action.get("when")),
                )


def _ingredients(manifest: Mapping[str, Any]) -> Iterator[str]:
    for ingredient in map(_mapping, _list(manifest.get("ingredients"))):
        kind = _shown(ingredient.get("format"))
        yield (_shown(ingredient.get("title")) or "?") + (f" ({kind})" if kind else "")


def _explained(name: str, known: Mapping[str, str], code: str) -> dict[str, str]:
    """A code of C2PA or IPTC as values of a text: in both languages, or as it is."""
    key = known.get(code)
    return {f"{name}_{language}": Notice(key).text(language) if key else code or "?" for language in LANGUAGES}


def _codes(entries: object) -> list[str]:
    """The codes in a list of what was found."""
    return [code for entry in _list(entries) if (code := _shown(_mapping(entry).get("code")))]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _shown(value: object) -> str:
    """What somebody else's file says, in one short row that changes nothing on a terminal; "" for what is no text."""
    if not isinstance(value, str):
        return ""
    row = " ".join("".join(letter if letter.isprintable() else " " for letter in value).split())
    return row if len(row) <= LONGEST_SHOWN else row[: LONGEST_SHOWN - 1] + "…"
