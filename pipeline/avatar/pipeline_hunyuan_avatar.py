"""HunyuanVideo-Avatar as a diffusers pipeline: a picture, a voice and a prompt in, frames out.

Calls the stages one after the other; what each computes stands in its own module.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    DiffusionPipeline,
    FasterCacheConfig,
    FlowMatchEulerDiscreteScheduler,
    PyramidAttentionBroadcastConfig,
)
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
from pipeline.avatar.branches import Predict, one_after_another
from pipeline.avatar.caching import serves_windows
from pipeline.avatar.sampler import Conditions, DenoisingRun, Settings, Speaker, denoise_step, make_scheduler
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from pipeline.avatar.windows import plan_timeline
from pipeline.errors import WeightsNotFound
from pipeline.plan import published_size

logger = logging.get_logger(__name__)

ONE_STATE_CACHES = (FasterCacheConfig, PyramidAttentionBroadcastConfig)  # made for both branches in one batch
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
        dropped_prompt: The end of the prompt that was too long to be read; "" when all was.
        dropped_prompt_2: The end of it that is missing from its summary (CLIP reads 77 tokens), though it was read.
        is_finished: False when the run was interrupted: the frames are then those of an unfinished one.
    """

    frames: Any
    dropped_prompt: str = ""
    dropped_prompt_2: str = ""
    is_finished: bool = True


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
    _callback_tensor_inputs = ("latents",)  # diffusers' callbacks ask for it

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
        self.predict: Predict = one_after_another  # set by what places the models or shares the work
        self.placed: Any = None  # set by `placing.place`

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
            WeightsError, FileMissing: a part is missing, damaged or another model's.
            SpaceMissing, DiskFull: the converted models do not fit.

        Source: HunyuanVideo-Avatar, hymm_sp/constants.py, for the layout.
        """
        transformer_folder, vae_folder = weights.convert_published(
            folder, converted, precision=precision, rope_axes_dim=rope_axes_dim, on_progress=on_progress
        )
        folder = weights.published_root(folder)
        text_folder, text_folder_2, audio_folder = (
            folder / presets.PUBLISHED_FOLDERS[name] for name in ("text_encoder", "text_encoder_2", "audio_encoder")
        )
        return cls(
            vae=weights.load_vae(vae_folder, dtype=encoder_dtype),
            text_encoder=weights.load_encoder(
                LlavaForConditionalGeneration, text_folder, "text_encoder", dtype=encoder_dtype
            ),
            tokenizer=_load_beside(AutoTokenizer, text_folder, "tokenizer.json"),
            text_encoder_2=weights.load_encoder(CLIPTextModel, text_folder_2, "text_encoder_2", dtype=encoder_dtype),
            tokenizer_2=_load_beside(AutoTokenizer, text_folder_2, "vocab.json / tokenizer.json"),
            audio_encoder=weights.load_encoder(WhisperModel, audio_folder, "audio_encoder", dtype=torch.float32),
            feature_extractor=_load_beside(WhisperFeatureExtractor, audio_folder, "preprocessor_config.json"),
            transformer=weights.load_transformer(transformer_folder, dtype=dtype),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=presets.FLOW_SHIFT),
        )

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` to stop a run before its next window."""
        return self._interrupt

    def maybe_free_model_hooks(self) -> None:
        """As in diffusers, for models that `placing.place` placed as well."""
        super().maybe_free_model_hooks()
        if self.placed is not None:
            self.placed.rest()

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """As diffusers saves a pipeline; an fp8 transformer, which diffusers could not load again, is refused."""
        if "quantization_config" in self.transformer.config:
            raise ValueError(
                "a transformer in fp8 cannot be saved with its pipeline: keep the folder that from_published converted "
                "it to, and give weights.load_transformer(folder) to from_pretrained as transformer="
            )
        super().save_pretrained(save_directory, *args, **kwargs)

    @torch.no_grad()
    def __call__(
        self,
        image: Picture,
        audio: np.ndarray | Sequence[np.ndarray],
        prompt: str | None = None,
        negative_prompt: str | None = None,
        *,
        sample_rate: int = presets.SAMPLE_RATE,
        image_size: int | None = None,
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
        negative_until: float = 1.0,
        latents: torch.Tensor | None = None,
        cache_dir: str | Path | None = None,
        tiling: autoencoder.Tiling | str | None = "published",
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> HunyuanVideoAvatarPipelineOutput | tuple[Any, str, str, bool]:
        """Make one clip.

        Args:
            image: The portrait: (height, width, 3) uint8 RGB, or a PIL picture of mode RGB.
            audio: (samples,) floats in [-1, 1], mono, 16 000 Hz; a list of them for several speakers.
            prompt: What is seen.
            negative_prompt: What shall not be seen; None for the published one.
            sample_rate: Of `audio`, Hz; 16 000 only.
            image_size: Short side of the clip, pixels, a multiple of 16; the sides are then rounded as published. None
                for 704.
            height: Of the clip, pixels, a multiple of 16, instead of `image_size`; together with `width`.
            width: Of the clip, pixels, a multiple of 16.
            num_frames: Of the clip, 5 or more; None for as long as the longest voice.
            num_inference_steps: Steps; published: 50.
            guidance_scale: 1 (none) or more; published: 7.5. See `plan_step`.
            generator: For the noise of the latents, then of the portrait. Only one on CUDA gives the published noise.
            seed: Instead of a generator: that of one on the device that computes, as published.
            faces: For every voice the face it moves: its number, 1 the largest, or its x, y, width, height in pixels
                of the picture as given. None: the largest face, for one voice.
            face_masks: Instead of `faces`, for every voice (height, width) at the size of the clip, in 0..1; or one
                for every latent frame, (ceil((num_frames - 1) / 4) + 1, height, width), for turn-taking.
            motion_exp: Strength of expression, an id the network embeds; published: 30.
            motion_pose: Strength of head motion, the same; published: 25.
            full_window: False is experimental: a short clip is denoised in the frames it needs rather than in the 129
                that the model was trained on.
            use_step_cache: Compute 20 of 50 steps on the last block alone, as published.
            negative_until: Experimental: share of the steps, in 0..1, after which guidance goes on by the negative
                branch as it was computed last; published: 1.
            latents: Noise to start from, (1, channels, timeline.noise_latent_frames, height / 8, width / 8), floats.
            cache_dir: Where prompts, once encoded, are kept.
            tiling: How the VAE cuts the clip: a Tiling, its name in `autoencoder.TILINGS`, or None for one piece.
            output_type: "np", "pt", "pil" or "latent".
            return_dict: False for a tuple.
            callback_on_step_end: Called as (pipeline, step, timestep, tensors) after every step; may return changed
                tensors and may set `_interrupt`.
            callback_on_step_end_tensor_inputs: Names of the tensors it wants; there is "latents".

        Returns:
            The frames, as many as the speech lasts.

        Raises:
            ValueError, TypeError: an input that cannot be used, with what was found and what is needed.
            FaceError: no face in the picture, an uncertain one, or not the one asked for.
            WordTaken: the prompt contains one of the tokenizers' own words.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}")
        _check_names(callback_on_step_end_tensor_inputs)
        try:
            run = self.prepare(
                image,
                audio,
                prompt,
                negative_prompt,
                sample_rate=sample_rate,
                image_size=image_size,
                height=height,
                width=width,
                num_frames=num_frames,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                generator=generator,
                seed=seed,
                faces=faces,
                face_masks=face_masks,
                motion_exp=motion_exp,
                motion_pose=motion_pose,
                full_window=full_window,
                use_step_cache=use_step_cache,
                negative_until=negative_until,
                latents=latents,
                cache_dir=cache_dir,
                tiling=tiling,
            )
            is_finished = self.denoise(run, callback_on_step_end, callback_on_step_end_tensor_inputs)
            frames: Any
            if output_type == "latent":
                frames = run.latents[:, :, : run.timeline.kept_latent_frames]
            elif output_type == "pil":
                frames = [[Image.fromarray(autoencoder.frame_to_uint8(frame)) for frame in self._decode(run, tiling)]]
            else:
                frames = torch.stack(list(self._decode(run, tiling)))[None]
                if output_type == "np":
                    frames = frames.permute(0, 1, 3, 4, 2).numpy()
        finally:
            self.maybe_free_model_hooks()
        prompt_read = run.conditions.prompt
        output = HunyuanVideoAvatarPipelineOutput(frames, prompt_read.dropped, prompt_read.dropped_2, is_finished)
        return output if return_dict else output.to_tuple()

    @torch.no_grad()
    def prepare(
        self,
        image: Picture,
        audio: np.ndarray | Sequence[np.ndarray],
        prompt: str | None = None,
        negative_prompt: str | None = None,
        *,
        sample_rate: int = presets.SAMPLE_RATE,
        image_size: int | None = None,
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
        negative_until: float = 1.0,
        latents: torch.Tensor | None = None,
        cache_dir: str | Path | None = None,
        tiling: autoencoder.Tiling | str | None = "published",
    ) -> DenoisingRun:
        """Read everything in: what is left of the inputs is a run, which `denoise` and `decode` take on.

        Arguments and errors are those of `__call__`. With models offloaded whole, `maybe_free_model_hooks()` sends the
        last one back when all stages are through.
        """
        settings = self._check_settings(num_inference_steps, guidance_scale, use_step_cache, negative_until)
        voices = _check_voices(audio, sample_rate)
        longest = max(len(voice) for voice in voices) // presets.SAMPLES_PER_FRAME
        timeline = plan_timeline(
            longest if num_frames is None else _whole("num_frames", num_frames), full_window=full_window
        )
        if timeline.num_windows > 1 and self.transformer.is_cache_enabled and not serves_windows(self.predict):
            raise ValueError(
                f"a clip of {timeline.num_frames} frames takes {timeline.num_windows} windows, which move every step; "
                "diffusers' caches keep what belongs to other frames: let caching.ByFrame predict, or call "
                "transformer.disable_cache()"
            )
        if not full_window and timeline.num_windows == 1:
            logger.warning("full_window=False is experimental: the model was trained on 129 frames.")
        if seed is not None:
            if generator is not None:
                raise ValueError("generator and seed say the same: give one of them")
            generator = torch.Generator(self._execution_device).manual_seed(_whole("seed", seed))
        positive, negative = _check_prompt("prompt", prompt, ""), presets.NEGATIVE_PROMPT
        negative = _check_prompt("negative_prompt", negative_prompt, negative)
        motion = [_whole("motion_exp", motion_exp, least=0), _whole("motion_pose", motion_pose, least=0)]

        pixels = self.prepare_image(image, image_size, height, width)
        height, width = pixels.shape[:2]
        masks = self.prepare_face_masks(
            np.asarray(image), height, width, len(voices), timeline.clip_latent_frames, faces, face_masks
        )
        prompt_embeds = self.encode_prompt(presets.PROMPT_PREFIX + positive, pixels, cache_dir)
        negative_embeds = prompt_embeds if guidance_scale == 1 else self.encode_prompt(negative, pixels, cache_dir)
        speakers = tuple(
            Speaker(self.encode_audio(voice, timeline.num_frames), mask)
            for voice, mask in zip(voices, masks, strict=True)
        )
        ratio, channels = self.vae.spatial_compression_ratio, self.transformer.config.in_channels
        shape = (1, channels, timeline.noise_latent_frames, height // ratio, width // ratio)
        noise = self.prepare_latents(shape, latents, generator, prompt_embeds.prompt_embeds.dtype)
        image_latents = autoencoder.encode_portrait(
            self.vae,
            portrait.portrait_pixels(pixels).to(self._execution_device),
            timeline.window_latent_frames,
            generator,
            tiling,
        )
        conditions = Conditions(prompt_embeds, negative_embeds, image_latents, speakers, *motion)
        made_with = text.fingerprint(self.transformer).hex()
        return DenoisingRun(timeline, settings, conditions, noise[:, :, : timeline.latent_frames], made_with)

    @torch.no_grad()
    def denoise(
        self,
        run: DenoisingRun,
        callback_on_step_end: Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> bool:
        """Take a run to its end, or to where it is interrupted; it can be saved in between and continued.

        Args:
            run: From `prepare`, or loaded.
            callback_on_step_end: As in `__call__`.
            callback_on_step_end_tensor_inputs: As in `__call__`.

        Returns:
            Whether the run is finished; False when it was interrupted.

        Raises:
            ValueError: the run was begun with another transformer, or with a cache of diffusers, whose state no saved
                run holds.
        """
        _check_names(callback_on_step_end_tensor_inputs)
        with self.progress_bar(total=run.settings.num_inference_steps) as progress_bar:
            progress_bar.update(run.step)
            for timestep in self.steps(run):
                progress_bar.update()
                if callback_on_step_end is not None:
                    tensors = {name: getattr(run, name) for name in callback_on_step_end_tensor_inputs}
                    changed = callback_on_step_end(self, run.step - 1, timestep, tensors) or {}
                    given = changed.get("latents", run.latents)
                    if given.shape != run.latents.shape:
                        shapes = f"{tuple(run.latents.shape)}, got {tuple(given.shape)}"
                        raise ValueError(f"callback_on_step_end must return latents of {shapes}")
                    run.latents = given
        return run.is_done

    @torch.no_grad()
    def steps(self, run: DenoisingRun) -> Iterator[torch.Tensor]:
        """Take a run on step by step: an iterator that gives the timestep of each step it has made.

        It ends with the run, or where it is interrupted; between two steps the run can be saved.

        Args:
            run: From `prepare`, or loaded.

        Raises:
            ValueError: as `denoise`.
        """
        made_with = text.fingerprint(self.transformer).hex()
        if run.transformer not in ("", made_with):
            raise ValueError("this run was begun with another transformer, or one changed since: continue it with that")
        if self.transformer.is_cache_enabled:
            if run.step:
                raise ValueError(f"this run is at step {run.step}; with a cache of diffusers it can only be begun anew")
            self.transformer._reset_stateful_cache()
        self._interrupt = False
        run.to(self._execution_device)
        scheduler = make_scheduler(self.scheduler.config, run.settings)
        while not run.is_done:
            if not denoise_step(run, self.transformer, scheduler, lambda: self.interrupt, self.predict):
                return
            yield scheduler.timesteps[run.step - 1]

    def decode(
        self, run: DenoisingRun, tiling: autoencoder.Tiling | str | None = "published", first_frame: int = 0
    ) -> Iterator[torch.Tensor]:
        """The frames of a run, one by one: (3, height, width) float32 in [0, 1].

        Only one tile of time is held, however long the clip. `autoencoder.frame_to_uint8` makes pictures of them.

        Args:
            run: Denoised.
            tiling: As in `__call__`.
            first_frame: The first one wanted, when those before it are there already.

        Raises:
            ValueError: the run has steps left.
        """
        if not run.is_done:
            raise ValueError(
                f"{run.step} of {run.settings.num_inference_steps} steps are done: call denoise(run) before decode(run)"
            )
        return self._decode(run, tiling, first_frame)

    def _decode(
        self, run: DenoisingRun, tiling: autoencoder.Tiling | str | None, first_frame: int = 0
    ) -> Iterator[torch.Tensor]:
        """Frames of a run wherever it stands: what an interrupted call gives, as in diffusers."""
        latents = run.latents[:, :, : run.timeline.kept_latent_frames].to(self._execution_device)
        return autoencoder.decode_frames(self.vae, latents, run.timeline.num_frames, tiling, first_frame)

    def encode_prompt(self, prompt: str, image: np.ndarray, cache_dir: str | Path | None = None) -> text.PromptEmbeds:
        """The prompt with the portrait in it, for both text inputs of the transformer; see `text.encode_prompt`."""
        embeds = text.encode_prompt(
            prompt,
            image,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=self.tokenizer_2,
            cache_dir=None if cache_dir is None else Path(cache_dir),
        )
        if embeds.dropped:
            logger.warning("A prompt was too long; this end of it was not read: %s", embeds.dropped)
        elif embeds.dropped_2:
            logger.info("CLIP reads 77 tokens; its summary of a prompt lacks this end: %s", embeds.dropped_2)
        return embeds

    def encode_audio(self, waveform: np.ndarray, num_frames: int) -> speech.SpeechFeatures:
        """Give every video frame its slice of speech features, as far as the sound goes; see `audio.encode_audio`."""
        num_frames = min(num_frames, len(waveform) // presets.SAMPLES_PER_FRAME)
        return speech.encode_audio(
            waveform, num_frames, audio_encoder=self.audio_encoder, feature_extractor=self.feature_extractor
        )

    def prepare_image(
        self, image: Picture, image_size: int | None, height: int | None, width: int | None
    ) -> np.ndarray:
        """The portrait at the clip's size, (height, width, 3) uint8, its proportions changed a little as published."""
        if not isinstance(image, np.ndarray | Image.Image):
            raise TypeError(f"image must be an array or a PIL picture, got {type(image).__name__}")
        if (height is None) != (width is None):
            raise ValueError(f"height and width come together, got height={height}, width={width}")
        if height is not None and image_size is not None:
            raise ValueError("image_size and height with width say the same: give one of them")
        if height is None or width is None:
            rows, columns = np.asarray(image).shape[:2]
            size = presets.IMAGE_SIZE if image_size is None else _whole("image_size", image_size)
            height, width = published_size(columns, rows, size)
        return portrait.resize_portrait(image, _whole("height", height), _whole("width", width))

    def prepare_face_masks(
        self,
        image: np.ndarray,
        height: int,
        width: int,
        num_speakers: int,
        latent_frames: int,
        faces: Sequence[int | FaceBox] | None = None,
        face_masks: Sequence[np.ndarray | torch.Tensor] | None = None,
    ) -> list[torch.Tensor]:
        """For every speaker (1 or latent_frames, height / 8, width / 8) in 0..1; faces are looked for in `image`."""
        if faces is not None and face_masks is not None:
            raise ValueError("faces and face_masks say the same: give one of them")
        for name, given in (("faces", faces), ("face_masks", face_masks)):
            if given is not None and not isinstance(given, list | tuple):
                raise TypeError(f"{name} must be a list with one for every voice, got {type(given).__name__}")
        chosen: Sequence[Any] = face_masks if face_masks is not None else faces or []
        if faces is None and face_masks is None and num_speakers == 1:
            chosen = [None]  # the largest, if it is one for sure
        if len(chosen) != num_speakers:
            raise ValueError(f"every voice needs its face: {num_speakers} voices, {len(chosen)} faces or face_masks")
        if face_masks is not None:
            masks = [portrait.check_mask(mask, height, width, latent_frames) for mask in face_masks]
        else:
            boxes = (portrait.scaled_box(_face_box(image, one), image, height, width) for one in chosen)
            masks = [portrait.face_mask(box, height, width) for box in boxes]
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
        device = self._execution_device
        if latents is None:
            return randn_tensor(shape, generator=generator, device=device, dtype=dtype).float()
        if tuple(latents.shape) != shape:
            raise ValueError(f"latents must be {shape}, got {tuple(latents.shape)}")
        if not latents.is_floating_point() or not bool(latents.isfinite().all()):
            raise ValueError(f"latents must be finite floats, got {latents.dtype} with NaN, infinity or whole numbers")
        return latents.to(device, torch.float32, copy=True)

    def _check_settings(
        self, num_inference_steps: int, guidance_scale: float, use_step_cache: bool, negative_until: float
    ) -> Settings:
        """Settings of a run, checked."""
        if not isinstance(guidance_scale, int | float) or not 1 <= guidance_scale < math.inf:
            raise ValueError(f"guidance_scale must be 1 (none) or more, got {guidance_scale}")
        if not isinstance(negative_until, int | float) or not 0 <= negative_until <= 1:
            raise ValueError(f"negative_until must be a share of the steps in 0..1, got {negative_until}")
        if use_step_cache and self.transformer.is_cache_enabled:
            raise ValueError("the transformer has a cache of its own enabled: choose it or use_step_cache, not both")
        if guidance_scale != 1 and isinstance(self.transformer._cache_config, ONE_STATE_CACHES):
            raise ValueError(
                f"{type(self.transformer._cache_config).__name__} keeps one state for both branches of guidance, which "
                "are computed apart here: enable another cache of diffusers, or set guidance_scale to 1"
            )
        if not isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler):
            raise ValueError(
                f"the scheduler must be FlowMatchEulerDiscreteScheduler, got {type(self.scheduler).__name__}"
            )
        if self.scheduler.config.use_dynamic_shifting:
            raise ValueError("the scheduler must have one shift (published: 5), got use_dynamic_shifting=True")
        num_steps = _whole("num_inference_steps", num_inference_steps, least=1)
        return Settings(num_steps, guidance_scale, use_step_cache, negative_until=negative_until)


def _load_beside(kind: Any, folder: Path, needed: str) -> Any:
    """A tokenizer or feature extractor from a model's folder, or its folder `tokenizer`, as some copies have it."""
    folder = folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsNotFound(folder=str(folder), needed=needed, found="-") from error


def _whole(name: str, value: Any, *, least: int | None = None) -> int:
    """`value` as an int; a programmer's mistake is named."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}")
    return int(value)


def _check_names(names: Sequence[str]) -> None:
    """Whether a callback asks for tensors that there are."""
    if unknown := set(names or ()) - {"latents"}:
        raise ValueError(f"callback_on_step_end_tensor_inputs may hold latents, got {', '.join(sorted(unknown))}")


def _check_prompt(name: str, prompt: str | None, default: str) -> str:
    """The prompt, or `default` for None."""
    if prompt is not None and not isinstance(prompt, str):
        raise TypeError(f"{name} must be one string, got {type(prompt).__name__}: a call makes one clip")
    return default if prompt is None else prompt


def _check_voices(audio: np.ndarray | Sequence[np.ndarray], sample_rate: int) -> list[np.ndarray]:
    """The voices as a list, each one checked."""
    voices: list[Any] = list(audio) if isinstance(audio, list | tuple) else [audio]
    if not voices:
        raise ValueError("audio holds no voice; one or more are needed")
    for number, voice in enumerate(voices, start=1):
        if not isinstance(voice, np.ndarray):
            needed = "(samples,) floats at 16 000 Hz, or a list of such arrays; audio.load_waveform(path) reads a file"
            raise TypeError(f"audio must be an array, {needed}; got {type(voice).__name__}")
        speech.check_waveform(voice, sample_rate)
        if len(voice) < presets.SAMPLES_PER_FRAME:
            least = presets.SAMPLES_PER_FRAME
            raise ValueError(f"voice {number} has {len(voice)} samples; a video frame takes {least}")
    return voices


def _face_box(image: np.ndarray, chosen: int | FaceBox | None) -> FaceBox:
    """The box of a face by number, as given, or with None of the largest."""
    if chosen is None:
        return portrait.face_box(image)
    if isinstance(chosen, Integral) and not isinstance(chosen, bool):
        return portrait.face_box(image, number=_whole("a face's number", chosen, least=1))
    if not isinstance(chosen, list | tuple | np.ndarray) or len(chosen) != 4:
        raise TypeError(f"a face is its number, 1 the largest, or x, y, width, height; got {chosen!r}")
    return tuple(float(value) for value in chosen)
