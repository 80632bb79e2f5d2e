"""The denoising loop as a value and a function: a `DenoisingRun` says all there is to know between two steps, and
`denoise_step` takes it one step on. A run can be saved after any step and continued in another process.

Knows latents and conditions; reads no picture and no sound.
Source: HunyuanVideo-Avatar, hymm_sp/diffusion/pipelines/pipeline_hunyuan_video_audio.py, __call__.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pipeline.avatar.audio import SpeechFeatures
from pipeline.avatar.branches import Branch, Predict, one_after_another
from pipeline.avatar.presets import FPS, MOTION_EXP, MOTION_POSE
from pipeline.avatar.schedule import plan_step
from pipeline.avatar.text import PromptEmbeds
from pipeline.avatar.transformer_hunyuan_avatar import NUM_MOTION_IDS, HunyuanVideoAvatarTransformer3DModel
from pipeline.avatar.windows import Timeline, Window, windows_of

FORMAT = "2"  # of a saved run; another one is refused


@dataclass(frozen=True)
class Speaker:
    """A voice and whom it moves.

    Args:
        speech: What the voice says, as the audio encoder hears it.
        face_mask: (1 or kept latent frames, height, width) 0..1, at the size of the latents.
    """

    speech: SpeechFeatures
    face_mask: torch.Tensor


@dataclass(frozen=True)
class Conditions:
    """What a run is guided by; nothing of it changes while it runs.

    Args:
        prompt: The prompt, with the portrait in it.
        negative_prompt: The negative prompt, with the portrait in it.
        image_latents: (1, channels, window, height, width), the portrait through the VAE, held still.
        speakers: One or more.
        motion_exp: Strength of expression; published: 30.
        motion_pose: Strength of head motion; published: 25.
        fps: Frames a second.
    """

    prompt: PromptEmbeds
    negative_prompt: PromptEmbeds
    image_latents: torch.Tensor
    speakers: tuple[Speaker, ...]
    motion_exp: int = MOTION_EXP
    motion_pose: int = MOTION_POSE
    fps: float = FPS


@dataclass(frozen=True)
class Settings:
    """How a run is made.

    Args:
        num_inference_steps: Steps.
        guidance_scale: Weight of classifier-free guidance, as `plan_step` reads it. Diffusers' HunyuanVideo calls it
            true_cfg_scale; the distilled guidance input of that name this model lacks.
        use_step_cache: Compute some steps on the last block alone, as published.
        rounding: What the latents are rounded to after every step; published: bfloat16. None keeps them.
        negative_until: Experimental: share of the run after which the negative branch is no longer computed; what it
            differed by last guides to the end. Published: 1.
    """

    num_inference_steps: int
    guidance_scale: float
    use_step_cache: bool = True
    rounding: torch.dtype | None = torch.bfloat16
    negative_until: float = 1.0

    def has_negative(self, step: int) -> bool:
        """Whether the negative branch is computed in this step; the first one always has it."""
        return step == 0 or self.negative_until >= 1 or step < self.negative_until * self.num_inference_steps


@dataclass
class FrameCache:
    """What entered the last block in the last full step, by latent frame; of one branch.

    Windows move between steps, so each latent frame keeps its own image tokens, and the reference and text tokens of
    the window it was computed in last.

    Args:
        image: (latent_frames, tokens_per_frame, dim); None before the first full step.
        windows: Reference tokens (1, tokens_per_frame, dim) and text tokens (1, tokens, dim) of windows.
        window_of: Which of `windows` each latent frame goes with.
        num_written: Windows written so far: as long as it stays, so does all the rest.
    """

    image: torch.Tensor | None = None
    windows: list[list[torch.Tensor]] = field(default_factory=list)
    window_of: list[int] = field(default_factory=list)
    num_written: int = 0

    def write(self, frames: Sequence[int], num_frames: int, inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Keep a window's tokens: where they come when it is the only window, else on the CPU, as clips may be long.

        Args:
            frames: Latent frames of the window, in its order.
            num_frames: Latent frames of the run.
            inputs: Image tokens (1, (window + 1) x tokens_per_frame, dim) and text tokens (1, tokens, dim).
        """
        tokens = inputs[0].unflatten(1, (len(frames) + 1, -1))
        store = tokens.device if len(frames) == num_frames else torch.device("cpu")
        if self.image is None or self.image.device != store:  # the only window is written whole
            self.image = torch.zeros((num_frames, *tokens.shape[2:]), dtype=tokens.dtype, device=store)
            self.window_of = [-1] * num_frames
        self.image[list(frames)] = tokens[0, 1:].to(store)
        self.windows.append([tokens[:, 0].to(store, copy=True), inputs[1].to(store, copy=True)])
        for frame in frames:
            self.window_of[frame] = len(self.windows) - 1
        used = sorted(set(self.window_of) - {-1})
        self.windows = [self.windows[number] for number in used]
        self.window_of = [used.index(number) if number >= 0 else -1 for number in self.window_of]
        self.num_written += 1

    def read(self, frames: Sequence[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """The last block's input for a window, whose first frame gives the reference and text tokens.

        Raises:
            ValueError: a frame of it was never written.
        """
        if self.image is None or any(self.window_of[frame] < 0 for frame in frames):
            raise ValueError(f"latent frames {frames[0]} to {frames[-1]} were not all computed in full before")
        reference, text = self.windows[self.window_of[frames[0]]]
        image = self.image[list(frames)].flatten(0, 1)[None]
        return torch.cat([reference, image], dim=1).to(device), text.to(device)


@dataclass
class DenoisingRun:
    """One run between two steps.

    Args:
        timeline: Its lengths.
        settings: How it is made.
        conditions: What guides it.
        latents: (1, channels, timeline.latent_frames, height, width) float32, on the device that computes.
        transformer: A digest of the transformer it is made with; "" for any.
        step: Steps done.
        negative_cache: For cached steps, of the negative branch; empty when no later step needs it.
        positive_cache: The same of the positive branch.
        difference: Like `latents`: what the positive branch predicted beyond the negative one when that was computed
            last; None while it still is.
    """

    timeline: Timeline
    settings: Settings
    conditions: Conditions
    latents: torch.Tensor
    transformer: str = ""
    step: int = 0
    negative_cache: FrameCache = field(default_factory=FrameCache)
    positive_cache: FrameCache = field(default_factory=FrameCache)
    difference: torch.Tensor | None = None

    @property
    def is_done(self) -> bool:
        """Whether every step is done."""
        return self.step >= self.settings.num_inference_steps

    def to(self, device: torch.device) -> None:
        """Move what is computed with; the caches stay where they are, and come by windows."""
        self.latents = self.latents.to(device)
        self.difference = None if self.difference is None else self.difference.to(device)

    def save(self, path: Path) -> None:
        """Write all of it to one file, which appears when it is whole. `Checkpoints` saves step by step for less.

        Args:
            path: A safetensors file.

        Raises:
            OSError: it cannot be written; nothing is left behind.
        """
        path = Path(path)
        tensors: dict[str, torch.Tensor] = {}
        plain = {"format": FORMAT, "run": pack(self, "run", tensors)}
        kept = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        plain["sha256"] = digest(plain["run"], kept)
        unfinished = path.with_name(f"{path.name}.part")
        try:
            save_file(kept, unfinished, metadata={"run": json.dumps(plain)})
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "DenoisingRun":
        """Read a saved run, onto the CPU; the pipeline moves it.

        Args:
            path: What `save` wrote.

        Raises:
            OSError: it cannot be read.
            ValueError: not a saved run, or of another format, or damaged.
        """
        path = Path(path)
        try:
            with safe_open(path, "pt") as file:
                plain = json.loads((file.metadata() or {}).get("run", "{}"))
                # cloned: a tensor in a file lies at another address, where a CPU may round its sums otherwise
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
            if plain.get("format") != FORMAT:
                raise ValueError(f"{path.name} must be a run saved in format {FORMAT}, got {plain.get('format')}")
            if plain.get("sha256") != digest(plain["run"], tensors):
                raise ValueError(f"{path.name} is not as it was saved: its digest is another; begin the clip again")
            run = read_run(unpack(plain["run"], tensors))
        except (SafetensorError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name} is damaged or no saved run ({error}); begin the clip again") from error
        return run


def make_scheduler(config: dict[str, Any], settings: Settings) -> FlowMatchEulerDiscreteScheduler:
    """A scheduler of its own for a run, on the published sigmas.

    Diffusers' default spacing differs by up to 68 of 1000 in the timesteps; explicit sigmas do not.
    """
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, settings.num_inference_steps + 1)[:-1])
    return scheduler


@torch.no_grad()
def denoise_step(
    run: DenoisingRun,
    transformer: HunyuanVideoAvatarTransformer3DModel,
    scheduler: FlowMatchEulerDiscreteScheduler,
    is_interrupted: Callable[[], bool] = lambda: False,
    predict: Predict = one_after_another,
) -> bool:
    """Take a run one step on.

    Args:
        run: Changed only when the step is complete.
        transformer: The denoiser.
        scheduler: Of this run, from `make_scheduler`.
        is_interrupted: Asked before every window.
        predict: Computes the branches of a window.

    Returns:
        Whether the step was made; False when interrupted.
    """
    settings, timeline = run.settings, run.timeline
    plan = plan_step(run.step, settings.num_inference_steps, settings.guidance_scale)
    is_full = plan.is_full or not settings.use_step_cache
    is_kept = settings.use_step_cache and not _is_full(settings, run.step + 1)
    timestep = scheduler.timesteps[run.step].to(run.latents.device)
    branches = [("cond", run.conditions.prompt, run.positive_cache)]
    has_negative = plan.guidance != 1 and settings.has_negative(run.step)
    difference = None  # kept in the last step that has a negative branch, for all that follow
    if has_negative and not settings.has_negative(run.step + 1):
        difference = torch.zeros_like(run.latents)
    if has_negative:
        # the two negative texts differ in length: what diffusers' caches keep of one must not meet the other
        name = "uncond_text" if plan.is_text_guided else "uncond"
        negative = run.conditions.negative_prompt if plan.is_text_guided else run.conditions.prompt
        branches.append((name, negative, run.negative_cache))
    windows = windows_of(timeline, run.step)
    predictions = []
    for window in windows:
        if is_interrupted():
            return False
        latents = run.latents[:, :, list(window.latent_frames)]
        inputs = _window_inputs(run.conditions, window, latents, plan.face_mask_factor, transformer)
        silence = {**inputs, "audio_embeds": torch.zeros_like(inputs["audio_embeds"])}
        sides = []
        for name, prompt, cache in branches:
            last = None if is_full else cache.read(window.latent_frames, latents.device)
            told = {"last_block_input": last, "return_last_block_input": is_full and is_kept}
            heard = inputs if name == "cond" else silence
            text = _text_inputs(prompt, inputs["hidden_states"])
            inputs_of_side = {**heard, **text, "timestep": timestep.expand(1), **told}
            steps = tuple(scheduler.timesteps[run.step :])
            sides.append(Branch(name, inputs_of_side, steps, window.latent_frames, timeline.latent_frames))
        window_predictions = []
        for output, (_, _, cache) in zip(predict(transformer, sides), branches, strict=True):
            window_predictions.append(output.sample.float())
            if output.last_block_input is not None:
                cache.write(window.latent_frames, timeline.latent_frames, output.last_block_input)
        frames = list(window.latent_frames)
        if difference is not None:
            difference[:, :, frames] = window_predictions[0] - window_predictions[1]
        kept = None if run.difference is None else run.difference[:, :, frames]
        predictions.append(_guide(window_predictions, plan.guidance, kept))
    run.latents = _advance(run, scheduler, timestep, windows, predictions)
    run.step += 1
    run.difference = run.difference if difference is None else difference
    if not settings.has_negative(run.step):
        run.negative_cache = FrameCache()
    if not is_kept and all(_is_full(settings, step) for step in range(run.step, settings.num_inference_steps)):
        run.negative_cache, run.positive_cache = FrameCache(), FrameCache()  # gigabytes that decoding may want
    return True


def _is_full(settings: Settings, step: int) -> bool:
    """Whether a step is computed in full; what comes after the last one needs nothing kept."""
    if step >= settings.num_inference_steps or not settings.use_step_cache:
        return True
    return plan_step(step, settings.num_inference_steps, settings.guidance_scale).is_full


def _window_inputs(
    conditions: Conditions,
    window: Window,
    latents: torch.Tensor,
    face_mask_factor: float,
    transformer: HunyuanVideoAvatarTransformer3DModel,
) -> dict[str, torch.Tensor]:
    """What the transformer is told of a window, the text and the time excepted."""
    device, dtype = latents.device, transformer.dtype
    speech = [speaker.speech.frames(window.speech_frames)[0] for speaker in conditions.speakers]
    masks = [
        mask if len(mask) == 1 else mask[[min(frame, len(mask) - 1) for frame in window.latent_frames]]
        for mask in (speaker.face_mask for speaker in conditions.speakers)
    ]
    longest = max(len(mask) for mask in masks)
    masks = [mask.expand(longest, -1, -1) for mask in masks]
    return {
        "hidden_states": latents.to(dtype),
        "image_latents": conditions.image_latents.to(device, dtype),
        "audio_embeds": torch.stack(speech)[None].to(device, dtype),
        "face_masks": torch.stack(masks)[None].to(device, dtype) * face_mask_factor,
        "motion_exp": torch.full((1, NUM_MOTION_IDS), conditions.motion_exp, device=device),
        "motion_pose": torch.full((1, NUM_MOTION_IDS), conditions.motion_pose, device=device),
        "fps": torch.tensor([conditions.fps], device=device),
    }


def _text_inputs(prompt: PromptEmbeds, like: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the transformer is told of a prompt."""
    return {
        "encoder_hidden_states": prompt.prompt_embeds.to(like),
        "encoder_attention_mask": prompt.prompt_attention_mask,
        "pooled_projections": prompt.pooled_prompt_embeds.to(like),
    }


def _guide(predictions: list[torch.Tensor], guidance: float, difference: torch.Tensor | None) -> torch.Tensor:
    """Positive prediction, moved away from the negative one where there is one, or along an earlier `difference`."""
    if len(predictions) == 1:
        return predictions[0] if difference is None else predictions[0] + (guidance - 1) * difference
    positive, negative = predictions
    return negative + guidance * (positive - negative)


def _advance(
    run: DenoisingRun,
    scheduler: FlowMatchEulerDiscreteScheduler,
    timestep: torch.Tensor,
    windows: Sequence[Window],
    predictions: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Latents after the step: every window's own, averaged where windows share frames."""
    if scheduler.step_index is None:
        scheduler.set_begin_index(run.step)
    latents = torch.cat([run.latents[:, :, list(window.latent_frames)] for window in windows])
    latents = scheduler.step(torch.cat(list(predictions)), timestep, latents, return_dict=False)[0]
    if run.settings.rounding is not None:
        latents = latents.to(run.settings.rounding)
    total = torch.zeros_like(run.latents)
    count = torch.zeros_like(run.latents[:1, :1, :, :1, :1])
    for window, moved in zip(windows, latents.to(total.dtype), strict=True):
        total[:, :, list(window.latent_frames)] += moved
        count[:, :, list(window.latent_frames)] += 1
    return total / count


# --- files ------------------------------------------------------------------------------------------------------------


def digest(plain: Any, tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of what is plain and of tensors on the CPU, by name."""
    total = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def pack(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """`value` as JSON, its tensors put aside under names that begin with `name`."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if is_dataclass(value):
        return {part.name: pack(getattr(value, part.name), f"{name}.{part.name}", tensors) for part in fields(value)}
    if isinstance(value, list | tuple):
        return [pack(part, f"{name}.{number}", tensors) for number, part in enumerate(value)]
    return value


def unpack(plain: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """What `pack` was given, with dictionaries for dataclasses and names for dtypes."""
    if isinstance(plain, dict):
        if plain.keys() == {"tensor"}:
            return tensors[plain["tensor"]]
        return {name: unpack(part, tensors) for name, part in plain.items()}
    return [unpack(part, tensors) for part in plain] if isinstance(plain, list) else plain


def read_run(stored: dict[str, Any]) -> DenoisingRun:
    """A run from its dictionary."""
    settings, conditions = stored["settings"], stored["conditions"]
    rounding = settings["rounding"]
    speakers = (Speaker(SpeechFeatures(**one["speech"]), one["face_mask"]) for one in conditions["speakers"])
    prompts = {name: PromptEmbeds(**conditions[name]) for name in ("prompt", "negative_prompt")}
    caches = {name: FrameCache(**stored[name]) for name in ("negative_cache", "positive_cache")}
    return DenoisingRun(
        **{
            **stored,
            **caches,
            "timeline": Timeline(**stored["timeline"]),
            "settings": Settings(**{**settings, "rounding": rounding and getattr(torch, rounding)}),
            "conditions": Conditions(**{**conditions, **prompts, "speakers": tuple(speakers)}),
        }
    )
