"""HunyuanVideo-Avatar as a diffusers pipeline: a picture, a voice and a prompt in, frames out.

Calls the stages one after the other; what each computes stands in its own module.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLHunyuanVideo, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.loaders import HunyuanVideoLoraLoaderMixin
from diffusers.utils import BaseOutput, logging
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from transformers import (
    AutoTokenizer,
    CLIPTextModel,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
    WhisperFeatureExtractor,
    WhisperModel,
)

from pipeline.avatar import audio as speech
from pipeline.avatar import autoencoder, portrait, presets, text, weights
from pipeline.avatar.sampler import Conditions, DenoisingRun, Settings, Speaker, denoise_step, make_scheduler
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from pipeline.avatar.windows import plan_timeline
from pipeline.errors import WeightsNotFound

logger = logging.get_logger(__name__)

OUTPUT_TYPES = ("np", "pt", "pil", "latent")
Picture = np.ndarray | Image.Image
FaceBox = Sequence[float]  # x, y, width, height in pixels of the picture as it is given


@dataclass
class HunyuanVideoAvatarPipelineOutput(BaseOutput):
    """A clip.

    Args:
        frames: By `output_type`: "np" (1, num_frames, height, width, 3) float32 in [0, 1]; "pt"
            (1, num_frames, 3, height, width) the same; "pil" a list with one list of pictures; "latent"
            (1, channels, latent_frames, height / 8, width / 8).
        dropped: The end of the prompt that was too long to be read; "" when all was.
        dropped_2: The end of it that is missing from its summary (CLIP reads 77 tokens), though the rest was read.
    """

    frames: Any
    dropped: str = ""
    dropped_2: str = ""


class HunyuanVideoAvatarPipeline(DiffusionPipeline, HunyuanVideoLoraLoaderMixin):
    """A picture of a character and a voice, or several of each, become a video of them speaking.

    Args:
        vae: Picture and frames to latents and back.
        text_encoder: LLaVA: the prompt with the portrait in it.
        tokenizer: Of `text_encoder`.
        text_encoder_2: CLIP: the prompt as one vector.
        tokenizer_2: Of `text_encoder_2`.
        audio_encoder: Whisper; its decoder is not used.
        feature_extractor: Of `audio_encoder`.
        transformer: The denoiser.
        scheduler: Its configuration alone is read; published: shift 5.

    Source: HunyuanVideo-Avatar, hymm_sp/diffusion/pipelines/pipeline_hunyuan_video_audio.py and
        sample_inference_audio.py.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->audio_encoder->transformer->vae"
    _callback_tensor_inputs = ("latents",)

    def __init__(
        self,
        vae: AutoencoderKLHunyuanVideo,
        text_encoder: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder_2: CLIPTextModel,
        tokenizer_2: PreTrainedTokenizerBase,
        audio_encoder: WhisperModel,
        feature_extractor: WhisperFeatureExtractor,
        transformer: HunyuanVideoAvatarTransformer3DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
            audio_encoder=audio_encoder,
            feature_extractor=feature_extractor,
            transformer=transformer,
            scheduler=scheduler,
        )
        self._interrupt = False

    @classmethod
    def from_published(
        cls,
        folder: Path,
        *,
        precision: str = "bf16",
        converted: Path | None = None,
        dtype: torch.dtype = torch.bfloat16,
        encoder_dtype: torch.dtype = torch.float16,
        rope_axes_dim: Sequence[int] | None = None,
        on_progress: weights.OnProgress | None = None,
    ) -> "HunyuanVideoAvatarPipeline":
        """Open the published repository as it is downloaded; transformer and VAE are converted once.

        Args:
            folder: The repository's, or its `ckpts`.
            precision: "bf16" or "fp8": which of the transformer's files.
            converted: Where the converted models go and are found again; None for a folder `converted` beside the
                published ones.
            dtype: Of the transformer; published: bfloat16.
            encoder_dtype: Of the VAE and the text encoders; published: float16. The audio encoder stays in float32.
            rope_axes_dim: As in `weights.transformer_config_of`.
            on_progress: Told bytes done and bytes in all, while a model is converted.

        Raises:
            ValueError: another precision.
            WeightsError: a part is missing, damaged or another model's.
            SpaceMissing, DiskFull: the converted models do not fit.

        Source: HunyuanVideo-Avatar, hymm_sp/constants.py, for the layout.
        """
        if precision not in ("bf16", "fp8"):
            raise ValueError(f'precision must be "bf16" or "fp8", got {precision!r}')
        folder = Path(folder) / "ckpts" if (Path(folder) / "ckpts").is_dir() else Path(folder)
        parts = {name: folder / place for name, place in presets.PUBLISHED_FOLDERS.items()}
        for part in parts.values():
            if not part.is_dir():
                raise WeightsNotFound(folder=str(folder), needed=str(part.relative_to(folder)), found="-")
        suffix = {"bf16": "", "fp8": "_fp8"}[precision]
        source = parts["transformer"] / f"mp_rank_00_model_states{suffix}.pt"
        scale_map = source.with_name(f"{source.stem}_map.pt") if precision == "fp8" else None
        converted = folder / "converted" if converted is None else Path(converted)
        model_folder, vae_folder = converted / f"transformer_{precision}", converted / "vae"
        if not (model_folder / weights.INDEX).is_file():
            weights.convert_transformer_file(
                source, model_folder, scale_map=scale_map, rope_axes_dim=rope_axes_dim, on_progress=on_progress
            )
        if not (vae_folder / weights.INDEX).is_file():
            config = AutoencoderKLHunyuanVideo.load_config(parts["vae"])
            weights.convert_vae_file(
                parts["vae"], vae_folder, norm_num_groups=config["norm_num_groups"], on_progress=on_progress
            )
        clip_tokenizer = parts["text_encoder_2"] / "tokenizer"
        local: dict[str, Any] = {"local_files_only": True}
        return cls(
            vae=AutoencoderKLHunyuanVideo.from_pretrained(vae_folder, torch_dtype=encoder_dtype, **local),
            text_encoder=LlavaForConditionalGeneration.from_pretrained(
                parts["text_encoder"], dtype=encoder_dtype, **local
            ),
            tokenizer=AutoTokenizer.from_pretrained(parts["text_encoder"], **local),
            text_encoder_2=CLIPTextModel.from_pretrained(parts["text_encoder_2"], dtype=encoder_dtype, **local),
            tokenizer_2=AutoTokenizer.from_pretrained(
                clip_tokenizer if clip_tokenizer.is_dir() else parts["text_encoder_2"], **local
            ),
            audio_encoder=WhisperModel.from_pretrained(parts["audio_encoder"], dtype=torch.float32, **local),
            feature_extractor=WhisperFeatureExtractor.from_pretrained(parts["audio_encoder"], **local),
            transformer=weights.load_transformer(model_folder, dtype=dtype),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=presets.FLOW_SHIFT),
        )

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` to stop a run before its next window."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        image: Picture,
        audio: np.ndarray | Sequence[np.ndarray],
        prompt: str = "",
        negative_prompt: str = presets.NEGATIVE_PROMPT,
        *,
        num_inference_steps: int = presets.NUM_INFERENCE_STEPS,
        guidance_scale: float = presets.GUIDANCE_SCALE,
        generator: torch.Generator | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        tiling: autoencoder.Tiling | None = autoencoder.PUBLISHED_TILING,
        **options: Any,
    ) -> HunyuanVideoAvatarPipelineOutput | tuple[Any, str, str]:
        """Make one clip.

        Args:
            image: The portrait: (height, width, 3) uint8 RGB, or a PIL picture of mode RGB.
            audio: (samples,) float32, mono, 16 000 Hz; several for several speakers.
            prompt: What is seen.
            negative_prompt: What shall not be seen.
            num_inference_steps: Steps; published: 50.
            guidance_scale: 1 (none) or more; published: 7.5. See `plan_step`.
            generator: For the noise of the latents, then of the portrait. Only a CUDA generator gives the published
                noise of a seed.
            output_type: "np", "pt", "pil" or "latent".
            return_dict: False for a tuple.
            callback_on_step_end: Called as (pipeline, step, timestep, tensors) after every step; may return changed
                tensors and may set `_interrupt`.
            callback_on_step_end_tensor_inputs: Names of the tensors it wants; there is "latents".
            tiling: How the VAE cuts the clip; None in one piece.
            options: The remaining ones of `prepare`.

        Returns:
            The frames, as many as the speech lasts.

        Raises:
            ValueError: an input that cannot be used, with what was found and what is needed.
            FaceError: no face in the picture, or not the one asked for.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}")
        if unknown := set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs):
            raise ValueError(f"callback_on_step_end_tensor_inputs may hold latents, got {', '.join(sorted(unknown))}")
        self._interrupt = False
        run = self.prepare(
            image,
            audio,
            prompt,
            negative_prompt,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            generator=generator,
            tiling=tiling,
            **options,
        )
        self.denoise(run, callback_on_step_end, callback_on_step_end_tensor_inputs)
        frames: Any
        if output_type == "latent":
            frames = run.latents[:, :, : run.timeline.kept_frames]
        elif output_type == "pil":
            frames = [[Image.fromarray(autoencoder.frame_to_uint8(frame)) for frame in self.decode(run, tiling)]]
        else:
            frames = torch.stack(list(self.decode(run, tiling)))[None]
            if output_type == "np":
                frames = frames.permute(0, 1, 3, 4, 2).numpy()
        self.maybe_free_model_hooks()
        output = HunyuanVideoAvatarPipelineOutput(
            frames, run.conditions.prompt.dropped, run.conditions.prompt.dropped_2
        )
        return output if return_dict else (output.frames, output.dropped, output.dropped_2)

    @torch.no_grad()
    def prepare(
        self,
        image: Picture,
        audio: np.ndarray | Sequence[np.ndarray],
        prompt: str = "",
        negative_prompt: str = presets.NEGATIVE_PROMPT,
        *,
        sample_rate: int = presets.SAMPLE_RATE,
        image_size: int = presets.IMAGE_SIZE,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int = presets.NUM_INFERENCE_STEPS,
        guidance_scale: float = presets.GUIDANCE_SCALE,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        faces: Sequence[int | FaceBox] | None = None,
        face_masks: Sequence[np.ndarray | torch.Tensor] | None = None,
        motion_exp: int = presets.MOTION_EXP,
        motion_pose: int = presets.MOTION_POSE,
        full_window: bool = True,
        use_step_cache: bool = True,
        latents: torch.Tensor | None = None,
        cache_dir: Path | None = None,
        tiling: autoencoder.Tiling | None = autoencoder.PUBLISHED_TILING,
    ) -> DenoisingRun:
        """Read everything in: what is left of the inputs is a run, which `denoise` and `decode` take on.

        Args:
            image: As in `__call__`, like those that are not named here.
            audio: The same.
            prompt: The same.
            negative_prompt: The same.
            sample_rate: Of `audio`, Hz; 16 000 only.
            image_size: Short side of the clip, pixels, a multiple of 16; the sides are rounded as published.
            height: Of the clip, pixels, a multiple of 16, instead of `image_size`; together with `width`.
            width: The same.
            num_frames: Of the clip, 5 or more; None for as long as the longest voice.
            num_inference_steps: The same as in `__call__`.
            guidance_scale: The same.
            generator: The same.
            seed: Instead of a generator: that of one on the device that computes, as published.
            faces: For every voice the face it moves: its number, 1 the largest, or its x, y, width, height in pixels
                of the picture as given. None: the largest face, for one voice.
            face_masks: Instead of `faces`, for every voice (height, width) or (latent frames, height, width) in 0..1,
                at the size of the clip.
            motion_exp: Strength of expression, an id the network embeds; published: 30.
            motion_pose: Strength of head motion, the same; published: 25.
            full_window: False is experimental: a short clip is denoised in the frames it needs rather than in the 129
                that the model was trained on.
            use_step_cache: Compute 20 of 50 steps on the last block alone, as published.
            latents: Noise to start from, (1, channels, timeline.noise_frames, height / 8, width / 8).
            cache_dir: Where prompts, once encoded, are kept.
            tiling: The same as in `__call__`.

        Raises:
            ValueError: an input that cannot be used.
            FaceError: no face, or not the one asked for.
        """
        settings = self._check_settings(num_inference_steps, guidance_scale, use_step_cache)
        if seed is not None:
            if generator is not None:
                raise ValueError("generator and seed say the same: give one of them")
            generator = torch.Generator(self._execution_device).manual_seed(seed)
        voices = [audio] if isinstance(audio, np.ndarray) and audio.ndim < 3 else list(audio)
        if not voices:
            raise ValueError("audio holds no voice; one or more are needed")
        for voice in voices:
            speech.check_waveform(voice, sample_rate)
        longest = max(len(voice) for voice in voices) // presets.SAMPLES_PER_FRAME
        timeline = plan_timeline(longest if num_frames is None else num_frames, full_window=full_window)
        if timeline.num_windows > 1 and self.transformer.is_cache_enabled:
            raise ValueError(
                f"a clip of {timeline.num_frames} frames takes {timeline.num_windows} windows, which move every step; "
                "diffusers' caches keep what belongs to other frames: call transformer.disable_cache()"
            )
        if not full_window and timeline.num_windows == 1:
            logger.warning("full_window=False is experimental: the model was trained on 129 frames.")

        pixels = self.prepare_image(image, image_size, height, width)
        height, width = pixels.shape[:2]
        masks = self.prepare_face_masks(
            np.asarray(image), height, width, len(voices), timeline.kept_frames, faces, face_masks
        )
        device = self._execution_device
        positive = self.encode_prompt(presets.PROMPT_PREFIX + prompt, pixels, cache_dir)
        if positive.dropped:
            logger.warning("The prompt was too long; this end of it was not read: %s", positive.dropped)
        elif positive.dropped_2:
            logger.warning("CLIP reads 77 tokens; its summary of the prompt lacks this end: %s", positive.dropped_2)
        negative = positive if guidance_scale == 1 else self.encode_prompt(negative_prompt, pixels, cache_dir)
        speakers = tuple(
            Speaker(self.encode_audio(voice, timeline.num_frames), mask)
            for voice, mask in zip(voices, masks, strict=True)
        )
        ratio, channels = self.vae.spatial_compression_ratio, self.transformer.config.in_channels
        shape = (1, channels, timeline.noise_frames, height // ratio, width // ratio)
        noise = self.prepare_latents(shape, latents, generator, positive.prompt_embeds.dtype)
        autoencoder.set_tiling(self.vae, tiling)
        image_latents = autoencoder.encode_portrait(
            self.vae, portrait.portrait_pixels(pixels).to(device), timeline.window, generator
        )
        conditions = Conditions(positive, negative, image_latents, speakers, motion_exp, motion_pose)
        return DenoisingRun(timeline, settings, conditions, noise[:, :, : timeline.latent_frames])

    @torch.no_grad()
    def denoise(
        self,
        run: DenoisingRun,
        callback_on_step_end: Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> None:
        """Take a run to its end, or to where it is interrupted; it can be saved in between and continued.

        Args:
            run: From `prepare`, or loaded.
            callback_on_step_end: As in `__call__`.
            callback_on_step_end_tensor_inputs: As in `__call__`.
        """
        scheduler = make_scheduler(self.scheduler.config, run.settings)
        with self.progress_bar(total=run.settings.num_inference_steps) as progress_bar:
            progress_bar.update(run.step)
            while not run.is_done and denoise_step(run, self.transformer, scheduler, lambda: self.interrupt):
                progress_bar.update()
                if callback_on_step_end is not None:
                    tensors = {name: getattr(run, name) for name in callback_on_step_end_tensor_inputs}
                    timestep = scheduler.timesteps[run.step - 1]
                    changed = callback_on_step_end(self, run.step - 1, timestep, tensors) or {}
                    run.latents = changed.get("latents", run.latents)

    def decode(
        self, run: DenoisingRun, tiling: autoencoder.Tiling | None = autoencoder.PUBLISHED_TILING
    ) -> Iterator[torch.Tensor]:
        """The frames of a run, one by one: (3, height, width) float32 in [0, 1].

        Only one tile of time is held, however long the clip. `autoencoder.frame_to_uint8` makes pictures of them.

        Args:
            run: Denoised.
            tiling: How the VAE cuts the clip; None in one piece.
        """
        autoencoder.set_tiling(self.vae, tiling)
        latents = run.latents[:, :, : run.timeline.kept_frames].to(self._execution_device)
        return autoencoder.decode_frames(self.vae, latents, run.timeline.num_frames)

    def encode_prompt(self, prompt: str, image: np.ndarray, cache_dir: Path | None = None) -> text.PromptEmbeds:
        """The prompt with the portrait in it, for both text inputs of the transformer; see `text.encode_prompt`."""
        return text.encode_prompt(
            prompt,
            image,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=self.tokenizer_2,
            cache_dir=cache_dir,
        )

    def encode_audio(self, waveform: np.ndarray, num_frames: int) -> speech.SpeechFeatures:
        """Give every video frame its slice of speech features; see `audio.encode_audio`."""
        num_frames = min(num_frames, len(waveform) // presets.SAMPLES_PER_FRAME)
        return speech.encode_audio(
            waveform, num_frames, audio_encoder=self.audio_encoder, feature_extractor=self.feature_extractor
        )

    def prepare_image(self, image: Picture, image_size: int, height: int | None, width: int | None) -> np.ndarray:
        """The portrait at the clip's size, (height, width, 3) uint8, its proportions changed a little as published."""
        if (height is None) != (width is None):
            raise ValueError(f"height and width come together, got height={height}, width={width}")
        if not isinstance(image, np.ndarray | Image.Image):
            raise TypeError(f"image must be an array or a PIL picture, got {type(image).__name__}")
        if height is None or width is None:
            rows, columns = np.asarray(image).shape[:2]
            height, width = portrait.published_size(columns, rows, image_size)
        return portrait.resize_portrait(image, height, width)

    def prepare_face_masks(
        self,
        image: np.ndarray,
        height: int,
        width: int,
        num_speakers: int,
        kept_frames: int,
        faces: Sequence[int | FaceBox] | None = None,
        face_masks: Sequence[np.ndarray | torch.Tensor] | None = None,
    ) -> list[torch.Tensor]:
        """For every speaker (1 or kept_frames, height / 8, width / 8) in 0..1; faces are looked for in `image`."""
        if faces is not None and face_masks is not None:
            raise ValueError("faces and face_masks say the same: give one of them")
        if faces is None and face_masks is None and num_speakers == 1:
            faces = [1]
        chosen: Sequence[Any] = face_masks if face_masks is not None else faces or []
        if len(chosen) != num_speakers:
            raise ValueError(f"every voice needs its face: {num_speakers} voices, {len(chosen)} faces or face_masks")
        if face_masks is not None:
            masks = [portrait.check_mask(mask, height, width, kept_frames) for mask in face_masks]
        else:
            boxes = (portrait.face_box(image, number=one) if isinstance(one, int) else one for one in chosen)
            masks = [portrait.face_mask(portrait.scaled_box(box, image, height, width), height, width) for box in boxes]
        ratio = self.vae.spatial_compression_ratio
        return [portrait.latent_mask(mask, height // ratio, width // ratio)[0, 0] for mask in masks]

    def prepare_latents(
        self,
        shape: tuple[int, ...],
        latents: torch.Tensor | None,
        generator: torch.Generator | None,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """Noise of the given shape in float32: drawn in `dtype`, that of the text as published, or the caller's."""
        if latents is None:
            return randn_tensor(shape, generator=generator, device=self._execution_device, dtype=dtype).float()
        if tuple(latents.shape) != shape:
            raise ValueError(f"latents must be {shape}, got {tuple(latents.shape)}")
        return latents.to(self._execution_device)

    def _check_settings(self, num_inference_steps: int, guidance_scale: float, use_step_cache: bool) -> Settings:
        """Settings of a run, checked."""
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be 1 or more, got {num_inference_steps}")
        if not guidance_scale >= 1:
            raise ValueError(f"guidance_scale must be 1 (none) or more, got {guidance_scale}")
        if use_step_cache and self.transformer.is_cache_enabled:
            raise ValueError("the transformer has a cache of its own enabled: choose it or use_step_cache, not both")
        return Settings(num_inference_steps, guidance_scale, use_step_cache)
