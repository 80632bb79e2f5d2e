"""The denoiser of HunyuanVideo-Avatar: diffusers' HunyuanVideo transformer with audio adapters, a reference frame, and
motion and frame-rate inputs.

Knows tensors alone: what is spoken, where the face is and which step it is are the pipeline's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models._modeling_parallel import ContextParallelInput
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401 (looked for here when a saved pipeline is loaded)
from diffusers.models.transformers.transformer_hunyuan_video import (
    HunyuanVideoConditionEmbedding,
    HunyuanVideoPatchEmbed,
    HunyuanVideoTransformer3DModel,
    HunyuanVideoTransformerBlock,
)
from diffusers.models.transformers.transformer_hunyuan_video_framepack import HunyuanVideoFramepackRotaryPosEmbed
from diffusers.utils import BaseOutput, apply_lora_scale
from torch import nn

from pipeline.avatar.presets import FRAMES_PER_LATENT

NUM_MOTION_IDS = 4  # of expression and of pose; Source: HunyuanVideo-Avatar, audio_dataset.py


@dataclass
class HunyuanVideoAvatarTransformerOutput(BaseOutput):
    """What the denoiser returns.

    Args:
        sample: (batch, channels, latent_frames, height, width), the velocity predicted, shaped like `hidden_states`.
        last_block_input: The image tokens (batch, (latent_frames + 1) x tokens_per_frame, dim) and the text tokens
            (batch, text_tokens, dim) that entered the last single block; None unless asked for.
    """

    sample: torch.Tensor
    last_block_input: tuple[torch.Tensor, torch.Tensor] | None = None


@dataclass
class HunyuanVideoAvatarWindow:
    """One window on its way through the blocks.

    Args:
        size: Latent frames, without the reference frame; rows and columns of tokens in each.
        temb: (batch, dim), what the blocks are modulated by.
        image_rotary_emb: Cosines and sines, each (image tokens, head_dim) float32.
        hidden_states: (batch, image tokens, dim), the reference frame's first.
        encoder_hidden_states: (batch, text tokens, dim).
        audio_states: As the adapter's; None where only the last block is run.
        audio_weights: The same.
        token_offset: The same.
    """

    size: tuple[int, int, int]
    temb: torch.Tensor
    image_rotary_emb: tuple[torch.Tensor, torch.Tensor]
    hidden_states: torch.Tensor
    encoder_hidden_states: torch.Tensor
    audio_states: torch.Tensor | None = None
    audio_weights: torch.Tensor | None = None
    token_offset: int = 0

    def run(self, block: nn.Module) -> None:
        """Take it through a block."""
        is_double = isinstance(block, HunyuanVideoTransformerBlock)
        audio = (self.audio_states, self.audio_weights, self.token_offset) if is_double else ()
        self.hidden_states, self.encoder_hidden_states = block(
            self.hidden_states, self.encoder_hidden_states, self.temb, None, self.image_rotary_emb, *audio
        )


class HunyuanVideoAvatarAudioProjection(nn.Module):
    """Speech features to tokens, a few for every video frame.

    Source: HunyuanVideo-Avatar, audio_adapters.py, AudioProjNet2.
    """

    def __init__(self, window: int, blocks: int, channels: int, hidden_dim: int, dim: int, num_tokens: int) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.proj1 = nn.Linear(window * blocks * channels, hidden_dim)
        self.proj2 = nn.Linear(hidden_dim, hidden_dim)
        self.proj3 = nn.Linear(hidden_dim, num_tokens * dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, audio_embeds: torch.Tensor) -> torch.Tensor:
        """(..., window, blocks, channels) to (..., num_tokens, dim)."""
        tokens = F.relu(self.proj1(audio_embeds.flatten(-3)))
        tokens = self.proj3(F.relu(self.proj2(tokens)))
        return self.norm(tokens.unflatten(-1, (self.num_tokens, -1)))


class HunyuanVideoAvatarAudioAdapter(nn.Module):
    """Attention with one head, from the image tokens of a latent frame to the audio tokens of the same frame.

    Source: HunyuanVideo-Avatar, audio_adapters.py, PerceiverAttentionCA; its declared 33 heads are used by nothing.
    """

    def __init__(self, dim: int, inner_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner_dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner_dim, bias=False)
        self.to_out = nn.Linear(inner_dim, dim, bias=False)

    def forward(
        self, hidden_states: torch.Tensor, audio_states: torch.Tensor, audio_weights: torch.Tensor, token_offset: int
    ) -> torch.Tensor:
        """What is heard, for every image token.

        Args:
            hidden_states: (batch, tokens, dim), all image tokens or, in context parallelism, a run of them.
            audio_states: (batch, num_speakers, frames, audio_tokens, dim), for the reference frame first.
            audio_weights: (batch, num_speakers, frames, tokens_per_frame): how much each token listens to each speaker.
            token_offset: Place of the first of `hidden_states` among all image tokens.

        Returns:
            (batch, tokens, dim), the sum over speakers, each weighted.
        """
        num_tokens, tokens_per_frame = hidden_states.shape[1], audio_weights.shape[-1]
        first, before = divmod(token_offset, tokens_per_frame)
        num_frames = -(-(before + num_tokens) // tokens_per_frame)
        after = num_frames * tokens_per_frame - before - num_tokens
        query = F.pad(self.to_q(self.norm2(hidden_states)), (0, 0, before, after))
        query = query.unflatten(1, (num_frames, tokens_per_frame))
        heard = torch.zeros((), dtype=query.dtype, device=query.device)
        for speaker in range(audio_states.shape[1]):
            spoken = audio_states[:, speaker, first : first + num_frames]
            key, value = self.to_kv(self.norm1(spoken)).chunk(2, dim=-1)
            attended = self.to_out(F.scaled_dot_product_attention(query, key, value))
            heard = heard + audio_weights[:, speaker, first : first + num_frames, :, None] * attended
        return heard.flatten(1, 2)[:, before : before + num_tokens]


class HunyuanVideoAvatarTransformerBlock(HunyuanVideoTransformerBlock):
    """A double block that listens: the adapter stands inside it, so that block caches and offload hold both."""

    def __init__(self, *args: Any, audio_adapter_dim: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.audio_adapter = HunyuanVideoAvatarAudioAdapter(self.norm2.normalized_shape[0], audio_adapter_dim)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        freqs_cis: tuple[torch.Tensor, torch.Tensor] | None = None,
        audio_states: torch.Tensor | None = None,
        audio_weights: torch.Tensor | None = None,
        token_offset: int = 0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As in HunyuanVideo, then the adapter; its arguments are those of the adapter."""
        hidden_states, encoder_hidden_states = super().forward(
            hidden_states, encoder_hidden_states, temb, attention_mask, freqs_cis
        )
        heard = self.audio_adapter(hidden_states, audio_states, audio_weights, token_offset)
        return hidden_states + heard, encoder_hidden_states


TransformerBlockRegistry.register(
    HunyuanVideoAvatarTransformerBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=1),
)


class HunyuanVideoAvatarConditionEmbedding(HunyuanVideoConditionEmbedding):
    """Time and pooled text as in HunyuanVideo; then expression, pose and frame rate, as sinusoids through an MLP."""

    def __init__(self, embedding_dim: int, pooled_projection_dim: int) -> None:
        super().__init__(embedding_dim, pooled_projection_dim, guidance_embeds=False)
        in_channels = self.time_proj.num_channels
        self.motion_exp_embedder = TimestepEmbedding(in_channels, embedding_dim // NUM_MOTION_IDS)
        self.motion_pose_embedder = TimestepEmbedding(in_channels, embedding_dim // NUM_MOTION_IDS)
        self.fps_embedder = TimestepEmbedding(in_channels, embedding_dim)

    def forward(
        self,
        timestep: torch.Tensor,
        pooled_projection: torch.Tensor,
        motion_exp: torch.Tensor,
        motion_pose: torch.Tensor,
        fps: torch.Tensor,
    ) -> torch.Tensor:
        """(batch, dim) of all five; shapes as in the transformer's `forward`."""
        conditioning, _ = super().forward(timestep, pooled_projection)
        dtype = pooled_projection.dtype
        for embedder, ids in (
            (self.motion_exp_embedder, motion_exp),
            (self.motion_pose_embedder, motion_pose),
            (self.fps_embedder, fps),
        ):
            embedded = embedder(self.time_proj(ids.flatten()).to(dtype))
            conditioning = conditioning + embedded.reshape(len(conditioning), -1)
        return conditioning


class HunyuanVideoAvatarTransformer3DModel(HunyuanVideoTransformer3DModel):
    """HunyuanVideo's transformer, driven by speech.

    The defaults are the published sizes. The attention takes no mask, so that flash, cuDNN and sage kernels can serve
    it: the text is refined in full and cut to its counted length, which leaves out nothing that image tokens see.

    Args:
        in_channels: Of the latents.
        out_channels: Of the prediction.
        num_attention_heads: Heads.
        attention_head_dim: Width of a head; the width of the model is heads x this.
        num_layers: Double blocks.
        num_single_layers: Single blocks.
        num_refiner_layers: Blocks of the text refiner.
        mlp_ratio: Width of the feed-forward layers over that of the model.
        patch_size: Side of a patch, latent pixels.
        patch_size_t: Length of a patch, latent frames; 1.
        qk_norm: Normalisation of queries and keys.
        text_embed_dim: Width of `encoder_hidden_states`.
        pooled_projection_dim: Width of `pooled_projections`.
        rope_theta: Base of the rotary embedding.
        rope_axes_dim: Its width for time, height and width; their sum is `attention_head_dim`.
        audio_window: Encoder positions in a frame's slice of speech features.
        audio_blocks: Hidden states of the audio encoder.
        audio_channels: Width of the audio encoder.
        audio_hidden_dim: Width of the audio projection.
        audio_tokens: Audio tokens a video frame.
        audio_adapter_dim: Width of an adapter's one head.
        audio_adapter_layers: Double blocks with an adapter, from 0; None for every second one, from 1 on.

    Source: HunyuanVideo-Avatar, hymm_sp/modules/models_audio.py, HYVideoDiffusionTransformer.
    """

    ignore_for_config = ["guidance_embeds", "image_condition_type"]  # noqa: RUF012 (HunyuanVideo's, which this lacks)
    _skip_layerwise_casting_patterns = [  # noqa: RUF012 (diffusers reads class lists)
        *HunyuanVideoTransformer3DModel._skip_layerwise_casting_patterns,
        "ref_embedder",
        "ref_proj",
        "audio_proj",
    ]
    _no_split_modules = [*HunyuanVideoTransformer3DModel._no_split_modules, "HunyuanVideoAvatarTransformerBlock"]  # noqa: RUF012
    _repeated_blocks = [  # noqa: RUF012
        "HunyuanVideoTransformerBlock",
        "HunyuanVideoAvatarTransformerBlock",
        "HunyuanVideoSingleTransformerBlock",
    ]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 16,
        out_channels: int = 16,
        num_attention_heads: int = 24,
        attention_head_dim: int = 128,
        num_layers: int = 20,
        num_single_layers: int = 40,
        num_refiner_layers: int = 2,
        mlp_ratio: float = 4.0,
        patch_size: int = 2,
        patch_size_t: int = 1,
        qk_norm: str = "rms_norm",
        text_embed_dim: int = 4096,
        pooled_projection_dim: int = 768,
        rope_theta: float = 256.0,
        rope_axes_dim: tuple[int, ...] = (16, 56, 56),
        audio_window: int = 10,
        audio_blocks: int = 5,
        audio_channels: int = 384,
        audio_hidden_dim: int = 1024,
        audio_tokens: int = 4,
        audio_adapter_dim: int = 1024,
        audio_adapter_layers: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            num_layers=num_layers,
            num_single_layers=num_single_layers,
            num_refiner_layers=num_refiner_layers,
            mlp_ratio=mlp_ratio,
            patch_size=patch_size,
            patch_size_t=patch_size_t,
            qk_norm=qk_norm,
            guidance_embeds=False,
            text_embed_dim=text_embed_dim,
            pooled_projection_dim=pooled_projection_dim,
            rope_theta=rope_theta,
            rope_axes_dim=rope_axes_dim,
        )
        dim = num_attention_heads * attention_head_dim
        self.ref_embedder = HunyuanVideoPatchEmbed((patch_size_t, patch_size, patch_size), in_channels, dim)
        self.ref_proj = nn.Linear(dim, dim)
        self.time_text_embed = HunyuanVideoAvatarConditionEmbedding(dim, pooled_projection_dim)
        self.rope = HunyuanVideoFramepackRotaryPosEmbed(patch_size, patch_size_t, rope_axes_dim, rope_theta)
        self.audio_proj = HunyuanVideoAvatarAudioProjection(
            audio_window, audio_blocks, audio_channels, audio_hidden_dim, dim, audio_tokens
        )
        for number in range(1, num_layers, 2) if audio_adapter_layers is None else audio_adapter_layers:
            self.transformer_blocks[number] = HunyuanVideoAvatarTransformerBlock(
                num_attention_heads,
                attention_head_dim,
                mlp_ratio=mlp_ratio,
                qk_norm=qk_norm,
                audio_adapter_dim=audio_adapter_dim,
            )
        tokens = {
            "hidden_states": ContextParallelInput(split_dim=1, expected_dims=3),
            "encoder_hidden_states": ContextParallelInput(split_dim=1, expected_dims=3),
        }
        rotary = ContextParallelInput(split_dim=0, expected_dims=2, split_output=True)
        self._cp_plan = {
            "rope": {0: rotary, 1: rotary},
            "transformer_blocks.0": tokens,
            f"single_transformer_blocks.{num_single_layers - 1}": tokens,
        }

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor,
        pooled_projections: torch.Tensor,
        image_latents: torch.Tensor,
        audio_embeds: torch.Tensor,
        face_masks: torch.Tensor,
        motion_exp: torch.Tensor,
        motion_pose: torch.Tensor,
        fps: torch.Tensor,
        last_block_input: tuple[torch.Tensor, torch.Tensor] | None = None,
        return_last_block_input: bool = False,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> HunyuanVideoAvatarTransformerOutput | tuple[torch.Tensor, ...]:
        """Predict the velocity of one window.

        Args:
            hidden_states: (batch, in_channels, latent_frames, height, width), the latents.
            timestep: (batch,) float in [0, 1000].
            encoder_hidden_states: (batch, text_tokens, text_embed_dim).
            encoder_attention_mask: (batch, text_tokens), 1 where the refiner looks; every sample the same count. The
                first count rows of the refined text take part in the attention, wherever the ones stand. Better on
                the CPU: the count is read, for which a GPU would have to finish first.
            pooled_projections: (batch, pooled_projection_dim).
            image_latents: Like `hidden_states`: the portrait, held still.
            audio_embeds: (batch, num_speakers, 4 x latent_frames - 3, audio_window, audio_blocks, audio_channels).
            face_masks: (batch, num_speakers, 1 or latent_frames, height, width), 0..1: whom each speaker's voice moves.
            motion_exp: (batch, 4) int, strength of expression; published: 30.
            motion_pose: (batch, 4) int, strength of head motion; published: 25.
            fps: (batch,) float, frames a second; published: 25 or 12.5.
            last_block_input: What an earlier step returned: only the last single block is computed, on this.
            return_last_block_input: Return it for such steps.
            attention_kwargs: {"scale": weight of the LoRAs}.
            return_dict: False for a tuple.

        Returns:
            The prediction, and the last block's input when asked for.

        Raises:
            ValueError: shapes that do not go together.

        Source: HunyuanVideo-Avatar, hymm_sp/modules/models_audio.py, forward.
        """
        window = self.begin(
            hidden_states,
            timestep,
            encoder_hidden_states,
            encoder_attention_mask,
            pooled_projections,
            image_latents,
            audio_embeds,
            face_masks,
            motion_exp,
            motion_pose,
            fps,
            last_block_input,
        )
        if last_block_input is None:
            num_image, num_text = window.hidden_states.shape[1], window.encoder_hidden_states.shape[1]
            for block in self.blocks[:-1]:
                window.run(block)
            window.hidden_states = self._gather(window.hidden_states, num_image)
            window.encoder_hidden_states = self._gather(window.encoder_hidden_states, num_text)
            last_block_input = window.hidden_states, window.encoder_hidden_states
        window.run(self.blocks[-1])
        sample = self.finish(window)
        kept = last_block_input if return_last_block_input else None
        if not return_dict:
            return (sample,) if kept is None else (sample, kept)
        return HunyuanVideoAvatarTransformerOutput(sample=sample, last_block_input=kept)

    # --- the stages of `forward`, for callers that take several windows through every block together ---

    @property
    def blocks(self) -> list[nn.Module]:
        """All blocks in their order, the double ones first."""
        return [*self.transformer_blocks, *self.single_transformer_blocks]

    def begin(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor,
        pooled_projections: torch.Tensor,
        image_latents: torch.Tensor,
        audio_embeds: torch.Tensor,
        face_masks: torch.Tensor,
        motion_exp: torch.Tensor,
        motion_pose: torch.Tensor,
        fps: torch.Tensor,
        last_block_input: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> HunyuanVideoAvatarWindow:
        """The tokens that enter the first block, or with `last_block_input` the last one; arguments as `forward`."""
        self._check_shapes(hidden_states, encoder_attention_mask, image_latents, audio_embeds, face_masks)
        num_frames, height, width = hidden_states.shape[2:]
        temb = self.time_text_embed(timestep, pooled_projections, motion_exp, motion_pose, fps)
        frame_indices = torch.arange(-1, num_frames)  # the reference frame stands before the first
        image_rotary_emb = self.rope(frame_indices, height, width, hidden_states.device)
        size = (num_frames, height // self.config.patch_size, width // self.config.patch_size)
        if last_block_input is not None:
            return HunyuanVideoAvatarWindow(size, temb, image_rotary_emb, *last_block_input)
        reference = self.x_embedder(image_latents[:, :, :1])
        video = self.x_embedder(hidden_states) + self.ref_proj(self.ref_embedder(image_latents))
        hidden_states = torch.cat([reference, video], dim=1)
        text_mask = encoder_attention_mask.to(hidden_states.device)
        text = self.context_embedder(encoder_hidden_states, timestep, text_mask)
        text = text[:, : int(encoder_attention_mask[0].sum())]
        audio = self._listen(audio_embeds, face_masks)
        token_offset = sum(self._shares(hidden_states.shape[1])[: self._rank])
        return HunyuanVideoAvatarWindow(size, temb, image_rotary_emb, hidden_states, text, *audio, token_offset)

    def finish(self, window: HunyuanVideoAvatarWindow) -> torch.Tensor:
        """The tokens that leave the last block, as the velocity: (batch, channels, latent_frames, height, width)."""
        num_frames, rows, columns = window.size
        patch = self.config.patch_size
        tokens = self.proj_out(self.norm_out(window.hidden_states, window.temb))
        sample = self._gather(tokens, (num_frames + 1) * rows * columns)[:, rows * columns :]
        sample = sample.reshape(len(sample), num_frames, rows, columns, -1, patch, patch)
        return sample.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)

    def _check_shapes(
        self,
        latents: torch.Tensor,
        text_mask: torch.Tensor,
        image_latents: torch.Tensor,
        audio_embeds: torch.Tensor,
        face_masks: torch.Tensor,
    ) -> None:
        """Raise ValueError where shapes do not go together."""
        batch_size, _, num_frames, height, width = latents.shape
        patch = self.config.patch_size
        if height % patch or width % patch:
            raise ValueError(f"latent height and width must be multiples of {patch}, got {height}×{width}")
        counts = text_mask.sum(dim=1)
        if not bool((counts == counts[0]).all()):
            raise ValueError(f"every text of a batch must count as many tokens, got {counts.tolist()}: run them apart")
        if image_latents.shape != latents.shape:
            raise ValueError(f"image_latents must be {tuple(latents.shape)}, got {tuple(image_latents.shape)}")
        config = self.config
        slices = (config.audio_window, config.audio_blocks, config.audio_channels)
        num_speakers = audio_embeds.shape[1] if audio_embeds.ndim == 6 else 0
        audio_frames = FRAMES_PER_LATENT * (num_frames - 1) + 1
        wanted = (batch_size, max(num_speakers, 1), audio_frames, *slices)
        if tuple(audio_embeds.shape) != wanted:
            raise ValueError(f"audio_embeds must be {wanted}, got {tuple(audio_embeds.shape)}")
        masks = [(batch_size, num_speakers, frames, height, width) for frames in (1, num_frames)]
        if tuple(face_masks.shape) not in masks:
            raise ValueError(f"face_masks must be {masks[0]} or {masks[1]}, got {tuple(face_masks.shape)}")

    def _listen(self, audio_embeds: torch.Tensor, face_masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Audio tokens and weights of every frame, the reference frame's first; shapes as the adapter's."""
        tokens = self.audio_proj(audio_embeds)
        ahead = tokens[:, :, :1].repeat_interleave(FRAMES_PER_LATENT - 1, dim=2)  # the first frame is a latent's own
        tokens = torch.cat([ahead, tokens], dim=2).unflatten(2, (-1, FRAMES_PER_LATENT)).flatten(3, 4)
        audio_states = F.pad(tokens, (0, 0, 0, 0, 1, 0))
        patch = self.config.patch_size
        weights = face_masks[..., ::patch, ::patch].flatten(3).to(tokens.dtype)
        weights = weights.expand(-1, -1, tokens.shape[2], -1)
        return audio_states, F.pad(weights, (0, 0, 1, 0))

    @property
    def _mesh(self) -> Any:
        """The processes that share a window in context parallelism; None in one process."""
        config = getattr(self._parallel_config, "context_parallel_config", None)
        return None if config is None else config._flattened_mesh

    @property
    def _rank(self) -> int:
        """This process among them."""
        return 0 if self._mesh is None else torch.distributed.get_rank(self._mesh.get_group())

    def _shares(self, num_tokens: int) -> list[int]:
        """How many of `num_tokens` each process holds."""
        parts = 1 if self._mesh is None else self._mesh.size()
        return [num_tokens // parts + (rank < num_tokens % parts) for rank in range(parts)]

    def _gather(self, tokens: torch.Tensor, num_tokens: int) -> torch.Tensor:
        """All tokens, (batch, num_tokens, dim), of which `tokens` are this process's.

        What enters the last block is gathered, because later steps cut their windows elsewhere; `_cp_plan` splits it
        again. Shares may differ by one, which not every backend's gather allows, nor diffusers' own with it: they are
        brought to one length.
        """
        if self._mesh is None:
            return tokens
        shares = self._shares(num_tokens)
        mine = F.pad(tokens, (0, 0, 0, max(shares) - tokens.shape[1])).contiguous()
        everyone = [torch.empty_like(mine) for _ in shares]
        torch.distributed.all_gather(everyone, mine, group=self._mesh.get_group())
        return torch.cat([one[:, :share] for one, share in zip(everyone, shares, strict=True)], dim=1)
