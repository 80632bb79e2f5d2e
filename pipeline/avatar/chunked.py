"""The transformer's blocks computed some thousand tokens at a time, in place, so that what passes through them fits
small cards: four copies of the tokens beside themselves, where the blocks' own `forward` takes up to 17.

Computes what the blocks compute, by their own layers, and knows nothing of where those are kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformerBlock
from torch import nn

from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformerBlock, HunyuanVideoAvatarWindow

CHUNK_TOKENS = 4096  # at a time: 96 MiB in the widest layer in bf16, and still work enough for a large GPU


@dataclass
class _Side:
    """Image or text tokens in a block, and the layers of attention they pass there.

    `tokens` (batch, tokens, dim) is changed in place; `shift` and `scale` are (batch, 1, dim).
    """

    tokens: torch.Tensor
    norm: nn.Module
    shift: torch.Tensor
    scale: torch.Tensor
    to_q: nn.Module
    to_k: nn.Module
    to_v: nn.Module
    norm_q: nn.Module | None
    norm_k: nn.Module | None
    rotary: tuple[torch.Tensor, torch.Tensor] | None = None

    def normed(self, start: int, end: int) -> torch.Tensor:
        """Some of the tokens, normalised and modulated."""
        return self.norm(self.tokens[:, start:end]) * (1 + self.scale) + self.shift


def modulators(block: nn.Module) -> list[nn.Module]:
    """The normalisations of a block that `temb` steers; their `linear` is a quarter of all weights."""
    if isinstance(block, HunyuanVideoTransformerBlock):
        return [block.norm1, block.norm1_context]
    return [block.norm]


def unmodulated(block: nn.Module) -> list[nn.Module]:
    """All parts of a block but those."""
    return [part for part in block.children() if part not in modulators(block)]


def modulation_of(block: nn.Module, temb: torch.Tensor) -> torch.Tensor:
    """What a block makes of `temb`, as it would itself: (batch, 12 or 3 x dim)."""
    return torch.cat([norm.linear(norm.silu(temb)) for norm in modulators(block)], dim=1)


def run_in_chunks(block: nn.Module, window: HunyuanVideoAvatarWindow, modulation: torch.Tensor) -> None:
    """Take a window through a block, as `window.run(block)`; its tokens are changed in place.

    Equal to the block's own `forward` but for the rounding of matrix products, which may differ with their number of
    rows. In fp8 products each chunk has a scale of its own.

    Args:
        block: Of the transformer.
        window: A window.
        modulation: What `modulation_of(block, window.temb)` gives.
    """
    if isinstance(block, HunyuanVideoTransformerBlock):
        _run_double(block, window, modulation)
    else:
        _run_single(block, window, modulation)


def _run_double(
    block: HunyuanVideoTransformerBlock, window: HunyuanVideoAvatarWindow, modulation: torch.Tensor
) -> None:
    attn = block.attn
    image, text = (
        part.unsqueeze(1).chunk(6, dim=2) for part in modulation.chunk(2, dim=1)
    )  # shift, scale, gate; twice
    sides = [
        _Side(
            window.hidden_states,
            block.norm1.norm,
            image[0],
            image[1],
            attn.to_q,
            attn.to_k,
            attn.to_v,
            attn.norm_q,
            attn.norm_k,
            window.image_rotary_emb,
        ),
        _Side(
            window.encoder_hidden_states,
            block.norm1_context.norm,
            text[0],
            text[1],
            attn.add_q_proj,
            attn.add_k_proj,
            attn.add_v_proj,
            attn.norm_added_q,
            attn.norm_added_k,
        ),
    ]
    seen = _attend(block, sides)
    rest = (
        (image[2:], attn.to_out[0], block.norm2, block.ff),
        (text[2:], attn.to_add_out, block.norm2_context, block.ff_context),
    )
    for side, attended, ((gate, shift_mlp, scale_mlp, gate_mlp), project, norm, feed_forward) in zip(
        sides, seen, rest, strict=True
    ):
        for start, end in _chunks(side.tokens.shape[1]):
            tokens = side.tokens[:, start:end]
            tokens.add_(project(attended[:, start:end]) * gate)
            tokens.add_(gate_mlp * feed_forward(norm(tokens) * (1 + scale_mlp) + shift_mlp))
    del attended, seen  # before the adapter takes memory
    if isinstance(block, HunyuanVideoAvatarTransformerBlock):
        _listen(block, window)


def _run_single(block: nn.Module, window: HunyuanVideoAvatarWindow, modulation: torch.Tensor) -> None:
    attn = block.attn
    shift, scale, gate = modulation.unsqueeze(1).chunk(3, dim=2)
    layers = (block.norm.norm, shift, scale, attn.to_q, attn.to_k, attn.to_v, attn.norm_q, attn.norm_k)
    sides = [
        _Side(window.hidden_states, *layers, window.image_rotary_emb),
        _Side(window.encoder_hidden_states, *layers),
    ]
    for side, attended in zip(sides, _attend(block, sides), strict=True):
        for start, end in _chunks(side.tokens.shape[1]):
            fed = block.act_mlp(block.proj_mlp(side.normed(start, end)))
            both = torch.cat([attended[:, start:end], fed], dim=2)
            side.tokens[:, start:end].add_(gate * block.proj_out(both))


def _attend(block: nn.Module, sides: list[_Side]) -> tuple[torch.Tensor, ...]:
    """Attention over the tokens of all sides together: for each side (batch, tokens, dim), not yet projected."""
    attn, first = block.attn, sides[0].tokens
    lengths = [side.tokens.shape[1] for side in sides]
    shape = (len(first), attn.heads, sum(lengths), attn.inner_dim // attn.heads)
    # (batch, tokens, heads, dim), lying head by head: cuDNN's kernel is given them so, copied where they lie otherwise
    query, key, value = (torch.empty(shape, dtype=first.dtype, device=first.device).transpose(1, 2) for _ in range(3))
    before = 0
    for side, length in zip(sides, lengths, strict=True):
        for start, end in _chunks(length):
            normed, place = side.normed(start, end), slice(before + start, before + end)
            for target, layer, norm in ((query, side.to_q, side.norm_q), (key, side.to_k, side.norm_k)):
                heads = layer(normed).unflatten(2, query.shape[2:])
                heads = heads if norm is None else norm(heads)
                if side.rotary is not None:
                    cosines, sines = side.rotary
                    heads = apply_rotary_emb(heads, (cosines[start:end], sines[start:end]), sequence_dim=1)
                target[:, place] = heads
            value[:, place] = side.to_v(normed).unflatten(2, query.shape[2:])
        before += length
    attended = dispatch_attention_fn(query, key, value, backend=attn.processor._attention_backend)
    del query, key, value, target  # before the result is brought into the order of tokens
    return attended.flatten(2, 3).split(lengths, dim=1)


def _listen(block: HunyuanVideoAvatarTransformerBlock, window: HunyuanVideoAvatarWindow) -> None:
    """Add what the audio adapter hears, whole latent frames at a time."""
    tokens_per_frame = window.size[1] * window.size[2]
    frames = max(1, CHUNK_TOKENS // tokens_per_frame)
    for start, end in _chunks(window.hidden_states.shape[1], frames * tokens_per_frame):
        tokens = window.hidden_states[:, start:end]
        tokens.add_(block.audio_adapter(tokens, window.audio_states, window.audio_weights, start))


def _chunks(length: int, size: int | None = None) -> Iterator[tuple[int, int]]:
    """Starts and ends of the chunks of `length` tokens."""
    size = CHUNK_TOKENS if size is None else size
    for start in range(0, length, size):
        yield start, min(start + size, length)
