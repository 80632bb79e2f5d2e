"""The published repository built tiny: every file and folder of it, with random weights, in a second or two.

Real classes, real names, real layout; `loopback.py` serves the folder as the Hub would. The clips it makes are noise.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLHunyuanVideo
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)
from transformers.utils import logging

from pipeline.avatar import loopback
from pipeline.avatar.fp8 import quantize, swap_linears
from pipeline.avatar.hub import FULL_HASH, NAME, REVISION, Repository
from pipeline.avatar.presets import PUBLISHED_FOLDERS
from pipeline.avatar.weights import ROPE_AXES_DIM, build_transformer, published_name, published_shapes

LLAMA_WORDS = ("<pad>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>")
CLIP_WORDS = ("<|startoftext|>", "<|endoftext|>")
VOCABULARY = 800  # tokens; enough for the template's words to be one token each, as the real one's
SHARD_SIZE = "100KB"  # of LLaVA's files, so that there are several, as published
WEIGHT_STD = 0.02  # of a random weight
COMMIT = REVISION.ljust(FULL_HASH, "0")  # of the repository, as it is served
LATENT_CHANNELS = 16  # as the real VAE's, so that what shows latents needs no case of its own

TRANSFORMER: dict[str, Any] = {
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "num_attention_heads": 2,  # four processes share them too: two each branch of the guidance
    "attention_head_dim": 16,
    "num_layers": 2,  # the second with an audio adapter
    "num_single_layers": 1,
    "num_refiner_layers": 1,
    "text_embed_dim": 32,
    "pooled_projection_dim": 24,
    "rope_axes_dim": ROPE_AXES_DIM[16],
    "audio_channels": 16,
    "audio_hidden_dim": 32,
    "audio_adapter_dim": 32,
}

# In the published repository, and nothing that a render needs. Source: its file list on the Hub, 2025.
NOT_NEEDED = (
    "assets/demo.png",
    "ckpts/det_align/detface.pt",
    "ckpts/text_encoder_2/pytorch_model.bin",
    "ckpts/whisper-tiny/pytorch_model.bin",
    "README.md",
)
LAST = NOT_NEEDED[-1]  # of the files to be written


def write_repository(folder: Path) -> Path:
    """Write the whole repository: the transformer in bf16 and fp8, VAE, LLaVA, CLIP, Whisper and what is not needed.

    Args:
        folder: Made when missing.

    Returns:
        `folder`. The same files, byte for byte, each time; written again only where the last one is missing.
    """
    if (folder / LAST).is_file():
        return folder
    places = {name: folder / "ckpts" / place for name, place in PUBLISHED_FOLDERS.items()}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    logging.disable_progress_bar()  # of transformers, which shows one for each of these small files
    tensors = published_tensors(TRANSFORMER)
    packed, scales = in_fp8(TRANSFORMER, tensors)
    for ending, content in (("", tensors), ("_fp8", packed), ("_fp8_map", scales)):
        torch.save({"module": content}, places["transformer"] / f"mp_rank_00_model_states{ending}.pt")

    vae = make_vae(LATENT_CHANNELS)
    vae.save_config(places["vae"])
    torch.save({f"vae.{name}": tensor for name, tensor in vae.state_dict().items()}, places["vae"] / "pytorch_model.pt")

    tokenizer, tokenizer_2 = llama_tokenizer(), clip_tokenizer()
    make_llava(tokenizer).save_pretrained(places["text_encoder"], max_shard_size=SHARD_SIZE)
    tokenizer.save_pretrained(places["text_encoder"])
    make_clip(tokenizer_2).save_pretrained(places["text_encoder_2"])
    tokenizer_2.save_pretrained(places["text_encoder_2"])
    make_whisper().save_pretrained(places["audio_encoder"])
    WhisperFeatureExtractor().save_pretrained(places["audio_encoder"])

    (folder / "LICENSE").write_text("Random numbers, made on this computer: nobody's.\n", "utf-8")
    for name in NOT_NEEDED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("not needed for a render\n", "utf-8")
    return folder


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Repository]:
    """A Hub on this computer with the tiny repository, until the context ends: for `hub.download` and the rest.

    Args:
        folder: Holds the repository, the cache and what is converted; written to once.
    """
    with loopback.serve(write_repository(folder / "published"), NAME, (COMMIT,)) as running:
        yield Repository(endpoint=running.url, cache_dir=folder / "hub", token=False, needs_licence=False)


def published_tensors(
    config: dict[str, Any], *, dtype: torch.dtype = torch.bfloat16, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Random tensors under the published names of a transformer of these sizes."""
    generator = torch.Generator().manual_seed(seed)
    ours = {name: tuple(tensor.shape) for name, tensor in build_transformer(config).state_dict().items()}
    return {
        name: torch.randn(shape, generator=generator, dtype=dtype).mul_(WEIGHT_STD)
        for name, shape in published_shapes(ours).items()
    }


def in_fp8(
    config: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The same with the blocks' linears in fp8, and the map of their scales."""
    layers = {published_name(f"{name}.weight") for name in swap_linears(build_transformer(config))}
    scales = {}
    tensors = dict(tensors)
    for name in sorted(map(str, layers)):
        tensors[name], scales[name.removesuffix(".weight")] = quantize(tensors[name])
    return tensors, scales


def make_vae(latent_channels: int = 4, *, width: int = 4) -> AutoencoderKLHunyuanVideo:
    """The VAE, `width` to twice as many channels wide."""
    torch.manual_seed(0)
    return AutoencoderKLHunyuanVideo(
        latent_channels=latent_channels,
        block_out_channels=(width, width, 2 * width, 2 * width),
        layers_per_block=1,
        norm_num_groups=width // 2,
    ).eval()


def make_whisper() -> WhisperModel:
    """Whisper, 16 wide, four layers and 1500 positions as the real one."""
    torch.manual_seed(0)
    return WhisperModel(
        WhisperConfig(
            d_model=16,
            encoder_layers=4,
            encoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_layers=1,
            decoder_attention_heads=2,
            decoder_ffn_dim=8,
            vocab_size=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
    ).eval()


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes joined to words, with Llama-3's own words, LLaVA's <image> and a beginning."""
    tokenizer = _trained(LLAMA_WORDS)
    begin = LLAMA_WORDS[1]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token=begin)


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes joined to words between CLIP's beginning and end; padded with its end, as CLIP-L's."""
    tokenizer = _trained(CLIP_WORDS)
    begin, end = CLIP_WORDS
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(word, tokenizer.token_to_id(word)) for word in CLIP_WORDS]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=end, bos_token=begin, eos_token=end, model_max_length=77
    )


def _trained(words: tuple[str, ...]) -> Tokenizer:
    """Byte-pair tokens learnt from the template; `words` are whole ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(words),
        show_progress=False,
    )
    tokenizer.train_from_iterator([DEFAULT_PROMPT_TEMPLATE["template"] + " The person looks like"], trainer)
    return tokenizer


def make_llava(tokenizer: PreTrainedTokenizerFast, *, seed: int = 0, layers: int = 4) -> LlavaForConditionalGeneration:
    """LLaVA, 32 wide; 336 pixels and 576 rows for the portrait, as the real one."""
    torch.manual_seed(seed)
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=3,
                num_attention_heads=2,
                image_size=336,
                patch_size=14,
            ),
            text_config=LlamaConfig(
                vocab_size=VOCABULARY,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=layers,
                num_attention_heads=4,
                num_key_value_heads=2,
            ),
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()


def make_clip(tokenizer: PreTrainedTokenizerFast, *, seed: int = 0) -> CLIPTextModel:
    """CLIP's text model, 24 wide."""
    torch.manual_seed(seed)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()
