"""Every error a visitor can meet, as a tree. Handles none of them.

    AvatarError
    ├── PictureError   PictureUnreadable PictureDamaged PictureFileTooLarge PictureTooLarge PictureTooSmall PictureThin
    │                 PictureRefused PictureUnconfirmed PictureUnjudged
    ├── FaceError      PortraitWithoutFace FaceUncertain FaceNumberUnknown SecondFaceMissing
    │                 FacesTooFarApart PointsImplausible
    ├── SoundError     SoundUnreadable SoundMissing SoundSilent SoundTooShort SoundTooLong SoundTooDetailed
    │                 SoundFileTooLarge
    ├── RequestError   FileMissing SizeUnsupported PointsUnreadable TextTooLong LanguageUnknown EngineUnknown WordTaken
    │                 MoodUnknown FramingUnknown CaptionsUnknown SpeedUnsupported SpeakersUnclear OptionUnused
    │                 UnlabelledUnknown LabelRequired ConsentMissing
    ├── VoiceError     ScriptEmpty VoiceUnknown VoiceSpeaksOther VoiceNotReady VoiceMissing VoiceFailed
    │                 VoiceFileUnknown
    ├── EngineError    EngineUnavailable ModelFileDamaged PresetUnavailable ProcessesUnsuited PlanDoesNotFit
    │                 LineFull
    ├── WeightsError   WeightsNotFound WeightsUnreadable WeightsUnsupported WeightsMismatch
    ├── DownloadError  LicenceNotAccepted DownloadDamaged HubOffline HubUnreachable HubForbids HubLacks CacheReadOnly
    ├── TrustError     CertificateRefused CredentialsUnreadable CredentialsFileTooLarge
    ├── JobError       JobMissing JobDamaged RunDamaged JobChanged JobBusy DeviceBusy DeviceMemoryFull
    ├── ClipError      ClipUnreadable ClipWithoutPicture ClipTooLarge ClipTooLong ClipFileTooLarge
    └── OutputError    OutputNotWritable DiskFull SpaceMissing EncodingFailed

The words stand in `texts.py` under the class's name, in both languages; the values are given here, by keyword.
"""

import functools
from typing import Any

from pipeline.texts import DEFAULT_LANGUAGE, say, shown


class AvatarError(Exception):
    """What a visitor can meet: what was found, what is needed, what to do.

    Args:
        values: What the sentence in `texts.py` names between braces.
    """

    def __init__(self, **values: Any) -> None:
        self.values: dict[str, Any] = {
            name: shown(value) if isinstance(value, str) else value for name, value in values.items()
        }
        super().__init__(self.text(DEFAULT_LANGUAGE))

    def text(self, language: str) -> str:
        """The sentence in `language`, "en" or "fr"."""
        return say(type(self).__name__, language, **self.values)

    def __reduce__(self) -> tuple[Any, ...]:
        """So that it reads the same in another process: what Python keeps of an error by itself is its words."""
        return functools.partial(type(self), **self.values), ()


class PictureError(AvatarError):
    """The picture cannot be used."""


class PictureUnreadable(PictureError):
    """Not a picture in a format we read. Values: name."""


class PictureDamaged(PictureError):
    """The header reads, the pixels do not. Values: name."""


class PictureFileTooLarge(PictureError):
    """More bytes than the door lets in. Values: name, mebibytes, limit_mebibytes."""


class PictureTooLarge(PictureError):
    """More pixels than the door lets in. Values: name, width, height, megapixels, limit_megapixels."""


class PictureTooSmall(PictureError):
    """Fewer pixels than a face needs. Values: name, width, height, limit_px."""


class PictureThin(PictureError):
    """Too far from a square for the avatar model. Values: width, height, limit."""


class PictureRefused(PictureError):
    """The gate takes the picture for a sexual one. Values: percent, limit."""


class PictureUnconfirmed(PictureError):
    """The gate is in doubt, and whoever sent the picture has not said what it is. Values: percent, lowest, highest."""


class PictureUnjudged(PictureError):
    """The gate is on and cannot run. Values: detail."""


class FaceError(AvatarError):
    """The face cannot be found, or not surely."""


class PortraitWithoutFace(FaceError):
    """No face. Values: name, width, height."""


class FaceUncertain(FaceError):
    """Perhaps a face: to be confirmed by number. Values: name, number, percent, x, y."""


class FaceNumberUnknown(FaceError):
    """The number asked for is not there. Values: name, number, count."""


class SecondFaceMissing(FaceError):
    """Two speakers, and not two faces for them. Values: name."""


class FacesTooFarApart(FaceError):
    """Two faces that no frame of the shape asked for can hold. Values: framing."""


class PointsImplausible(FaceError):
    """Handles that cannot be a face. Values: name, reason_en and reason_fr."""


class SoundError(AvatarError):
    """The recording cannot be used."""


class SoundUnreadable(SoundError):
    """Not a sound file we can read, or incomplete. Values: name."""


class SoundMissing(SoundError):
    """The file opens and has no sound in it. Values: name."""


class SoundSilent(SoundError):
    """The sound never rises above the noise of a zero. Values: name, seconds."""


class SoundTooShort(SoundError):
    """Values: name, seconds, limit_seconds."""


class SoundTooLong(SoundError):
    """Values: name, limit_seconds. The length itself is unknown: reading stops at the limit."""


class SoundTooDetailed(SoundError):
    """More samples in all channels than are read. Values: name, channels, kilohertz."""


class SoundFileTooLarge(SoundError):
    """More bytes than the door lets in. Values: name, mebibytes, limit_mebibytes."""


class RequestError(AvatarError):
    """The request contradicts itself, whatever its files hold."""


class FileMissing(RequestError):
    """Not there, or not a regular file. Values: name."""


class SizeUnsupported(RequestError):
    """Values: size, smallest, largest, multiple."""


class PointsUnreadable(RequestError):
    """Not five pairs of numbers. Values: found."""


class TextTooLong(RequestError):
    """Values: length, limit."""


class LanguageUnknown(RequestError):
    """Values: language."""


class EngineUnknown(RequestError):
    """Values: engine, known."""


class WordTaken(RequestError):
    """The prompt contains a word that the text encoder takes for a command. Values: word."""


class MoodUnknown(RequestError):
    """Values: mood, known."""


class FramingUnknown(RequestError):
    """Values: framing, known."""


class CaptionsUnknown(RequestError):
    """Values: captions, known."""


class SpeedUnsupported(RequestError):
    """Values: speed, slowest, fastest."""


class SpeakersUnclear(RequestError):
    """A script and a recording at once, neither of them, or a second recording alone. Values: count."""


class OptionUnused(RequestError):
    """Something was asked for that only counts together with what was not given. Values: option, needs."""


class UnlabelledUnknown(RequestError):
    """No such reason for a clip without a label. Values: reason, known."""


class LabelRequired(RequestError):
    """This clip may not go without its label. Values: reason_en, reason_fr."""


class ConsentMissing(RequestError):
    """Nobody has agreed to what is asked before each clip. Values: statement_en and statement_fr."""


class VoiceError(AvatarError):
    """The script cannot be spoken."""


class ScriptEmpty(VoiceError):
    """There is no word in it to be read. Values: length."""


class VoiceUnknown(VoiceError):
    """Values: voice, known."""


class VoiceSpeaksOther(VoiceError):
    """A voice never reads a language it cannot. Values: voice, speaks, language, known."""


class VoiceNotReady(VoiceError):
    """The voice asked for has something missing. Values: voice, advice_en, advice_fr."""


class VoiceMissing(VoiceError):
    """No voice reads the language here. Values: language, advice_en, advice_fr."""


class VoiceFailed(VoiceError):
    """A synthesiser broke off. Values: engine, detail."""


class VoiceFileUnknown(VoiceError):
    """A file is not the synthesiser's network as published. Values: name, found, expected."""


class EngineError(AvatarError):
    """The engine cannot run here."""


class EngineUnavailable(EngineError):
    """Values: engine, reason_en, reason_fr."""


class ModelFileDamaged(EngineError):
    """A model file of the project is not the one it was built with. Values: name, found, expected."""


class PresetUnavailable(EngineError):
    """A speed preset cannot work here. Values: preset, reason_en, reason_fr."""


class ProcessesUnsuited(EngineError):
    """So many processes cannot share a clip. Values: found, reason_en, reason_fr, possible."""


class PlanDoesNotFit(EngineError):
    """Memory or disk are too small for the clip. Values: reason_en, reason_fr, advice_en, advice_fr."""


class LineFull(EngineError):
    """As many visitors wait for it as may. Values: count."""


class WeightsError(AvatarError):
    """A model's weights cannot be used."""


class WeightsNotFound(WeightsError):
    """A folder without the one weight file that is needed. Values: folder, needed, found."""


class WeightsUnreadable(WeightsError):
    """Not a whole file of tensors. Values: name, bytes, reason_en and reason_fr."""


class WeightsUnsupported(WeightsError):
    """Tensors kept in a way that we do not read. Values: name, reason_en and reason_fr."""


class WeightsMismatch(WeightsError):
    """Tensors of another model, or not all of them. Values: component, num_missing, missing, num_unexpected,
    unexpected, num_misshapen, misshapen, advice_en and advice_fr.
    """


class DownloadError(AvatarError):
    """Weights cannot be downloaded. What has come is kept."""


class LicenceNotAccepted(DownloadError):
    """Nobody has accepted the licence of the weights here. Values: address."""


class DownloadDamaged(DownloadError):
    """A file came twice with another hash than the Hub says. Values: name, found, expected."""


class HubOffline(DownloadError):
    """The Hub would have to be asked, and HF_HUB_OFFLINE forbids it. Values: repository, cache."""


class HubUnreachable(DownloadError):
    """No connection, or it was cut again and again, or the Hub is out of order. Values: endpoint, detail."""


class HubForbids(DownloadError):
    """The Hub answers 401 or 403. Values: repository, endpoint, status."""


class HubLacks(DownloadError):
    """A repository, revision or file is not there. Values: repository, endpoint, what."""


class CacheReadOnly(DownloadError):
    """Values: path."""


class TrustError(AvatarError):
    """Credentials cannot be made or read."""


class CertificateRefused(TrustError):
    """The user's own certificate, or those that they trust, cannot be used. Values: reason_en, reason_fr."""


class CredentialsUnreadable(TrustError):
    """Damaged, or no file that could carry any. Values: name."""


class CredentialsFileTooLarge(TrustError):
    """More bytes than are checked. Values: name, mebibytes, limit_mebibytes."""


class JobError(AvatarError):
    """A render that was begun before cannot go on."""


class JobMissing(JobError):
    """No job of that name. Values: name, hours."""


class JobDamaged(JobError):
    """A file of the job is missing or not as it was written. Values: name, file."""


class RunDamaged(JobError):
    """No saved state of the denoising can be read. Values: count, file."""


class JobChanged(JobError):
    """What the job was begun with is not what there is now. Values: name, fact, recorded, found."""


class JobBusy(JobError):
    """Another process works on it. Values: name."""


class DeviceBusy(JobError):
    """Another render has the device. Values: device."""


class DeviceMemoryFull(JobError):
    """Out of memory with the placement that takes least. Values: placement, detail."""


class ClipError(AvatarError):
    """A finished clip cannot be measured."""


class ClipUnreadable(ClipError):
    """Not a video we can read, or incomplete. Values: name."""


class ClipWithoutPicture(ClipError):
    """A file with sound alone. Values: name."""


class ClipTooLarge(ClipError):
    """More pixels in a frame than the door lets in. Values: name, width, height, limit_megapixels."""


class ClipTooLong(ClipError):
    """Values: name, limit_seconds."""


class ClipFileTooLarge(ClipError):
    """More bytes than the door lets in. Values: name, mebibytes, limit_mebibytes."""


class OutputError(AvatarError):
    """The clip cannot be written."""


class OutputNotWritable(OutputError):
    """Values: path."""


class DiskFull(OutputError):
    """Values: path, free_mebibytes."""


class SpaceMissing(OutputError):
    """Less room on the disk than will be needed. Values: path, needed_mebibytes, free_mebibytes."""


class EncodingFailed(OutputError):
    """The encoder gave up. Values: detail."""
