"""The prompt and the portrait to what the transformer reads of them, kept on disk. Knows no denoising.

LLaVA reads the prompt in a template with the portrait after it; CLIP reads the bare prompt. Of the published numbers
even the odd ones are kept, because the weights were trained with them: the rows behind the last token, and a mask that
does not match the rows it masks.
"""

import contextlib
import copy
import hashlib
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import align_module_device
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import CLIPTextModel, LlavaForConditionalGeneration, PreTrainedTokenizerBase

from pipeline.avatar.offload import brought_in
from pipeline.errors import WordTaken

logger = logging.getLogger(__name__)

SUFFIX = "\nThe person looks like<image>"  # Source: HunyuanVideo-Avatar, hymm_sp/text_encoder
CROP = DEFAULT_PROMPT_TEMPLATE["crop_start"]  # 95 tokens of instruction, the same for every prompt: not handed on
MAX_TOKENS = CROP + 256  # of the filled-in template. Source: HunyuanVideo-Avatar, text_len
UNUSED_LAYERS = 2  # the last of the language model, and its norm. Source: the same, hidden_state_skip_layer
# of CLIP's pictures, from 0 to 1, red, green, blue, to the published code's digits: one has 0.40821073 elsewhere, which
# rounds a few float16 otherwise. Source: HunyuanVideo-Avatar, hymm_sp/data_kits/audio_dataset.py
IMAGE_MEAN = (0.48145466, 0.4578275, 0.4082107)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
LONGEST_WORD = 40  # letters; a shortened prompt ends with a whole word if the cut one is no longer than this

CACHE_FORMAT = "1"  # of the files and of all that is computed for them; another one is another file
CACHE_ENTRIES = 200  # newest kept; each holds at most 831 rows of 4096 float16, 6.8 MB, so 1.4 GB in all
FINGERPRINT_WEIGHTS, FINGERPRINT_VALUES = 32, 64  # how many of a model's matrices are looked at; values of each
# Fast tokenizers keep what to cut and to pad in themselves: two threads at once get an error, or each other's length.
_tokenizing = threading.Lock()
ABANDONED_SECONDS = 3600  # a half-written file of this age has lost its writer


@dataclass(frozen=True)
class PromptEmbeds:
    """A prompt with a portrait, as the transformer reads it. On the CPU, in the encoders' dtype.

    Args:
        prompt_embeds: (1, 831, 4096): 256 - 1 places for tokens and 576 for the portrait. Rows of no token are alike.
        prompt_attention_mask: (1, 831) int64, the published one: as many ones as there are tokens, but 575 of them
            stand at the end, whatever stands there.
        pooled_prompt_embeds: (1, 768), the bare prompt through CLIP.
        dropped: The end of the prompt that was too long for LLaVA and is not in prompt_embeds.
        dropped_2: The end of the prompt that was too long for CLIP and is not in pooled_prompt_embeds.
    """

    prompt_embeds: torch.Tensor
    prompt_attention_mask: torch.Tensor
    pooled_prompt_embeds: torch.Tensor
    dropped: str = ""
    dropped_2: str = ""


@dataclass(frozen=True)
class PromptTokens:
    """A prompt in both encoders' tokens.

    Args:
        input_ids: (1, tokens) int64, at most 351: the filled-in template, with one image token, without padding.
        clip_input_ids: (1, 77) int64, padded.
        clip_attention_mask: (1, 77) int64.
        dropped: As in PromptEmbeds.
        dropped_2: As in PromptEmbeds.
    """

    input_ids: torch.Tensor
    clip_input_ids: torch.Tensor
    clip_attention_mask: torch.Tensor
    dropped: str = ""
    dropped_2: str = ""


def encode_prompt(
    prompt: str,
    image: np.ndarray | Image.Image,
    *,
    text_encoder: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    text_encoder_2: CLIPTextModel,
    tokenizer_2: PreTrainedTokenizerBase,
    cache_dir: Path | None = None,
) -> PromptEmbeds:
    """Read a prompt and look at the portrait.

    Args:
        prompt: What is seen, the published prefix included. Too long a one loses its end; `dropped` tells.
        image: (rows, columns, 3) uint8, RGB, or a PIL picture of mode RGB: the portrait at the clip's size.
        text_encoder: LLaVA-Llama-3-8B, whole; its last layers and its head are not run. It may be offloaded.
        tokenizer: Its own.
        text_encoder_2: CLIP-L's text model.
        tokenizer_2: Its own.
        cache_dir: Where results are kept, by the content of all that they follow from. None keeps nothing.

    Raises:
        WordTaken: the prompt contains one of the tokenizers' own words, as <image>.
        ValueError: another kind of picture, or tokenizer and text encoder do not belong together.

    Source: HunyuanVideo-Avatar, pipeline_hunyuan_video_audio.py, encode_prompt_audio_text_base.
    """
    pixels = _rgb(image)
    with _tokenizing:
        tokens = tokenize_prompt(
            prompt,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
        )
    path = (
        None if cache_dir is None else cache_dir / f"{_key(tokens, pixels, text_encoder, text_encoder_2)}.safetensors"
    )
    kept = None if path is None else _read(path)
    if kept is None:
        pixel_values = llava_pixel_values(pixels, text_encoder.config.vision_config.image_size)
        rows = llava_rows(tokens.input_ids, pixel_values, text_encoder)
        pooled = clip_pooled(tokens.clip_input_ids, tokens.clip_attention_mask, text_encoder_2)
        kept = {"rows": rows, "pooled_prompt_embeds": pooled}
        if path is not None:
            _write(path, kept)
    num_image_tokens = _num_image_tokens(text_encoder)
    return PromptEmbeds(
        all_rows(kept["rows"], num_image_tokens),
        published_mask(tokens.input_ids.shape[1], num_image_tokens),
        kept["pooled_prompt_embeds"],
        tokens.dropped,
        tokens.dropped_2,
    )


# --- words to tokens --------------------------------------------------------------------------------------------------


def tokenize_prompt(
    prompt: str,
    *,
    text_encoder: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    text_encoder_2: CLIPTextModel,
    tokenizer_2: PreTrainedTokenizerBase,
) -> PromptTokens:
    """Fill in the template and take the tokens of both encoders, shortening the prompt where it is too long.

    Raises:
        WordTaken, ValueError: as encode_prompt().
    """
    config = text_encoder.config
    pad = config.pad_token_id if getattr(config, "pad_token_id", None) is not None else config.text_config.pad_token_id
    if tokenizer.pad_token_id != pad:
        raise ValueError(
            f"the tokenizer pads with {tokenizer.pad_token_id}, the text encoder's config says {pad}; both must be the "
            "same: load the tokenizer from the text encoder's own repository"
        )

    def input_ids(words: str) -> list[int]:
        return tokenizer(DEFAULT_PROMPT_TEMPLATE["template"].format(words) + SUFFIX, verbose=False).input_ids

    num_clip_tokens = text_encoder_2.config.max_position_embeddings
    read = _longest_beginning(prompt, lambda words: len(input_ids(words)), MAX_TOKENS)
    read_2 = _longest_beginning(prompt, lambda words: len(tokenizer_2(words, verbose=False).input_ids), num_clip_tokens)
    _refuse_reserved(read, tokenizer)
    _refuse_reserved(read_2, tokenizer_2)
    ids = input_ids(read)
    num_images = ids.count(config.image_token_id)
    if num_images != 1 or len(ids) > MAX_TOKENS:
        raise ValueError(
            f"the template around {read[:40]!r} has {len(ids)} tokens, {num_images} of them the image token "
            f"{config.image_token_id}; at most {MAX_TOKENS} and exactly 1 are needed: is this LLaVA's own tokenizer?"
        )
    # CLIP cuts by itself, within a word where it must, as published
    clip = tokenizer_2(prompt, padding="max_length", max_length=num_clip_tokens, truncation=True, return_tensors="pt")
    return PromptTokens(
        torch.tensor([ids]),
        clip.input_ids,
        clip.attention_mask,
        dropped=prompt[len(read) :].strip(),
        dropped_2=prompt[len(read_2) :].strip(),
    )


def _longest_beginning(text: str, num_tokens: Callable[[str], int], limit: int) -> str:
    """The longest beginning of the text that has `limit` tokens at most, ended with a whole word where it has words."""
    fits, too_long = 0, 256
    while too_long < len(text) and num_tokens(text[:too_long]) <= limit:
        fits, too_long = too_long, 2 * too_long
    if too_long >= len(text):
        if num_tokens(text) <= limit:
            return text
        too_long = len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if num_tokens(text[:middle]) <= limit:
            fits = middle
        else:
            too_long = middle
    beginning = text[:fits]
    cut_word = re.search(rf"(?<=\s)\S{{1,{LONGEST_WORD}}}$", beginning)
    if cut_word and not text[fits].isspace():
        beginning = beginning[: cut_word.start()]
    return beginning.rstrip()


def _refuse_reserved(prompt: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse words that the tokenizer keeps for itself: an end of turn or a second <image> would be obeyed."""
    reserved = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    reserved.pop(tokenizer.unk_token_id, None)
    for number in tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids:
        if number in reserved:
            raise WordTaken(word=reserved[number])


# --- the portrait -----------------------------------------------------------------------------------------------------


def _rgb(image: np.ndarray | Image.Image) -> np.ndarray:
    """The picture as (rows, columns, 3) uint8; any other kind is refused."""
    if isinstance(image, Image.Image):
        if image.mode != "RGB":
            raise ValueError(f"the picture has mode {image.mode}; mode RGB is needed: convert it first")
        image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"the picture is {image.shape} {image.dtype}; (rows, columns, 3) uint8, RGB, is needed")
    return np.ascontiguousarray(image)


def llava_pixel_values(image: np.ndarray, size: int) -> torch.Tensor:
    """The portrait as LLaVA looks at it: stretched to a square, whatever that does to its proportions, as published.

    Args:
        image: (rows, columns, 3) uint8, RGB.
        size: Of the square, pixels: 336.

    Returns:
        (1, 3, size, size) float16, less CLIP's mean, over CLIP's standard deviation.
    """
    square = np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    values = torch.from_numpy(square).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(three)[:, None, None] for three in (IMAGE_MEAN, IMAGE_STD))
    return ((values - mean) / std).half()[None]


# --- tokens to embeddings ---------------------------------------------------------------------------------------------


@torch.no_grad()
def llava_rows(
    input_ids: torch.Tensor, pixel_values: torch.Tensor, text_encoder: LlavaForConditionalGeneration
) -> torch.Tensor:
    """What LLaVA makes of the tokens, the crop taken off.

    Args:
        input_ids: (1, tokens) int64, at most 351, one of them the image token, without padding.
        pixel_values: (1, 3, 336, 336), the portrait.
        text_encoder: LLaVA.

    Returns:
        (1, rows, dim) on the CPU: a row per token after the 95th and per part of the portrait, in place of the image
        token; then the one row that stands for every place of no token, unless there is none.

    Source: HunyuanVideo-Avatar, hymm_sp/text_encoder, with transformers 4.45.1.
    """
    with brought_in(text_encoder) as device:
        inputs_embeds, attention_mask, position_ids = llava_inputs(input_ids, pixel_values, text_encoder, device)
        hidden_states = _without_last_layers(text_encoder.model.language_model)(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
        ).last_hidden_state
    return hidden_states[:, CROP:].cpu()


def llava_inputs(
    input_ids: torch.Tensor,
    pixel_values: torch.Tensor,
    text_encoder: LlavaForConditionalGeneration,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the language model is given, as transformers 4.45.1 merged it.

    A place of no token is a zero embedding at position 1 that nobody attends to. All of them come out alike, so one is
    computed.

    Returns:
        Embeddings (1, rows, dim), attention mask and positions (1, rows) int64.
    """
    image = text_encoder.get_image_features(pixel_values=pixel_values.to(device, text_encoder.dtype)).pooler_output[0]
    words = text_encoder.get_input_embeddings()(input_ids.to(device))[0]
    place = input_ids[0].tolist().index(text_encoder.config.image_token_id)
    rows = [words[:place], image.to(words), words[place + 1 :]]
    num_rows = sum(map(len, rows))
    has_padding = input_ids.shape[1] < MAX_TOKENS
    attention_mask = torch.ones(1, num_rows + has_padding, dtype=torch.int64, device=device)
    position_ids = torch.arange(num_rows + has_padding, device=device)[None]
    if has_padding:
        rows.append(torch.zeros_like(words[:1]))
        attention_mask[:, -1] = 0
        position_ids[:, -1] = 1
    return torch.cat(rows)[None], attention_mask, position_ids


def _without_last_layers(language_model: torch.nn.Module) -> torch.nn.Module:
    """The same layers but the last two and the norm, in another body: the model itself stays whole."""
    shorter = copy.copy(language_model)
    shorter.__dict__.pop("forward", None)  # a hook's, which would call the whole model
    shorter._modules = dict(language_model._modules)
    shorter.layers = torch.nn.ModuleList(list(language_model.layers)[:-UNUSED_LAYERS])
    shorter.norm = torch.nn.Identity()
    return shorter


@torch.no_grad()
def clip_pooled(input_ids: torch.Tensor, attention_mask: torch.Tensor, text_encoder_2: CLIPTextModel) -> torch.Tensor:
    """What CLIP makes of (1, 77) tokens: (1, dim) on the CPU."""
    with brought_in(text_encoder_2) as device:
        outputs = text_encoder_2(input_ids.to(device), attention_mask=attention_mask.to(device))
    return outputs.pooler_output.cpu()


def all_rows(rows: torch.Tensor, num_image_tokens: int) -> torch.Tensor:
    """llava_rows() with its last row repeated for every place of no token.

    Args:
        rows: (1, rows, dim).
        num_image_tokens: 576.

    Returns:
        (1, 831, dim).
    """
    num_alike = MAX_TOKENS - 1 + num_image_tokens - CROP - rows.shape[1]
    return torch.cat([rows, rows[:, -1:].expand(-1, num_alike, -1)], dim=1)


def published_mask(num_tokens: int, num_image_tokens: int) -> torch.Tensor:
    """The mask handed to the transformer: the portrait's ones stand at the end, not where its rows are.

    Args:
        num_tokens: Of the filled-in template, the image token counted once.
        num_image_tokens: 576.

    Returns:
        (1, 831) int64.
    """
    mask = torch.zeros(1, MAX_TOKENS - 1 + num_image_tokens, dtype=torch.int64)
    mask[:, :num_tokens] = 1
    mask[:, MAX_TOKENS:] = 1
    return mask[:, CROP:]


def _num_image_tokens(text_encoder: LlavaForConditionalGeneration) -> int:
    """Rows the portrait takes: 576."""
    vision = text_encoder.config.vision_config
    has_class = text_encoder.config.vision_feature_select_strategy == "full"
    return (vision.image_size // vision.patch_size) ** 2 + has_class


# --- the cache --------------------------------------------------------------------------------------------------------


def _key(tokens: PromptTokens, image: np.ndarray, *models: LlavaForConditionalGeneration | CLIPTextModel) -> str:
    """A name for the result: a digest of all that it follows from. The tokens stand for prompt and tokenizers."""
    digest = hashlib.sha256(CACHE_FORMAT.encode())
    for ids in (tokens.input_ids, tokens.clip_input_ids, tokens.clip_attention_mask):
        digest.update(json.dumps(ids.tolist()).encode())
    digest.update(f"{image.shape}".encode() + image.tobytes())
    for model in models:
        digest.update(fingerprint(model))
    return digest.hexdigest()


def fingerprint(model: torch.nn.Module) -> bytes:
    """A digest of a model: its config, dtype and the first values of some of its matrices, without bringing it in."""
    config = model.config.to_dict() if hasattr(model.config, "to_dict") else dict(model.config)  # diffusers' is one
    config = _without(config, ("transformers_version", "architectures", "_name_or_path", "dtype"))
    config = {name: value for name, value in config.items() if not name.startswith("_")}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode() + str(model.dtype).encode())
    # quantised matrices are wrapped in classes of their own and need not have values to look at
    plain = [name for name, value in model.named_parameters() if value.ndim > 1 and type(value.data) is torch.Tensor]
    for name in plain[:: max(1, len(plain) // FINGERPRINT_WEIGHTS)]:
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        with align_module_device(module):  # one on the meta device is kept by its hook
            weight = getattr(module, leaf)
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
            digest.update(weight.detach().flatten()[:FINGERPRINT_VALUES].float().cpu().numpy().tobytes())
    return digest.digest()


def _without(config: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """A config and those in it, less what only says where the model was saved and how it was loaded."""
    return {
        name: _without(value, names) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in names
    }


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    """A kept result; none if it is not there, or not as it was written."""
    try:
        with safe_open(path, "pt") as file:
            kept = {name: file.get_tensor(name) for name in ("rows", "pooled_prompt_embeds")}
            if (file.metadata() or {}).get("sha256") != _digest(kept):
                return None
        os.utime(path)  # used lately: the last to go
    except (OSError, SafetensorError):
        return None
    return kept


def _write(path: Path, kept: dict[str, torch.Tensor]) -> None:
    """Keep a result: under another name until it is whole. A disk that will not take it costs the cache, no more."""
    unfinished = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in kept.items()}, unfinished, {"sha256": _digest(kept)})
        unfinished.replace(path)
        _discard_old(path.parent)
    except (OSError, SafetensorError) as error:
        logger.warning("The prompt's embeddings were not kept in %s: %s", path.parent, error)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _digest(kept: dict[str, torch.Tensor]) -> str:
    """SHA-256 of the tensors' bytes."""
    digest = hashlib.sha256()
    for name in sorted(kept):
        digest.update(kept[name].contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _discard_old(cache_dir: Path) -> None:
    """Delete all but the newest results, and what a writer left behind."""

    def written(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except FileNotFoundError:  # deleted meanwhile by another process
            return 0.0

    newest_first = sorted(cache_dir.glob("*.safetensors"), key=written, reverse=True)
    abandoned = [path for path in cache_dir.glob(".*.part") if written(path) < time.time() - ABANDONED_SECONDS]
    for path in newest_first[CACHE_ENTRIES:] + abandoned:
        path.unlink(missing_ok=True)
