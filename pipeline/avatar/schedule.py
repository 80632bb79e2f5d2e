"""What each step of a run does: guidance, which prompt the negative branch sees, how much of the face moves, what is
computed anew. Pure functions; knows no tensor.

The published constants are written for 50 steps. They are read here as shares of the run, so that 50 steps give the
published schedule exactly and other counts follow the same course.
Source: HunyuanVideo-Avatar, hymm_sp/diffusion/pipelines/pipeline_hunyuan_video_audio.py, __call__.
"""

from dataclasses import dataclass
from fractions import Fraction

from pipeline.avatar.presets import GUIDANCE_SCALE

TEXT_SHARE = Fraction(10, 50)  # of the run in which the text guides; after it only the voice does
TEXT_MASK_FACTOR = 0.6  # of the face mask in that part: the voice holds back while the picture forms
FULL_UNTIL = Fraction(15, 50)  # of the run computed in full, while the picture still changes much
FULL_AGAIN = Fraction(41, 50)  # from here on in full, for the details
FULL_EVERY = Fraction(5, 50)  # between the two, one step in this share of the run is full


@dataclass(frozen=True)
class StepPlan:
    """One step.

    Args:
        guidance: Weight of classifier-free guidance; 1 needs no negative branch.
        is_text_guided: Whether the negative branch gets the negative prompt; else it differs by silence alone.
        face_mask_factor: What face masks are multiplied with.
        is_full: Computed in full; else only the last block, on what the last full step left.
    """

    guidance: float
    is_text_guided: bool
    face_mask_factor: float
    is_full: bool


def plan_step(step: int, num_steps: int, guidance_scale: float = GUIDANCE_SCALE) -> StepPlan:
    """What step `step` of `num_steps` does.

    Guidance falls along two ramps: at the published scale 7.5 from 7.5 to 6.5 while the text guides, then from 5.9 to
    3.5. Another scale moves both ramps' distance from 1 in proportion, so that 1 is no guidance at all. (The published
    code moves the first ramp only, and fails at 1.)

    Args:
        step: 0 .. num_steps - 1.
        num_steps: Steps of the run.
        guidance_scale: 1 or more.
    """
    done = Fraction(step, num_steps)
    is_text_guided = done < TEXT_SHARE
    left = float(1 - done)
    published = left * (GUIDANCE_SCALE - 2) + 2 if is_text_guided else left * 3 + 3.5
    strength = (guidance_scale - 1) / (GUIDANCE_SCALE - 1)
    starts_part = done // FULL_EVERY != (done - Fraction(1, num_steps)) // FULL_EVERY
    return StepPlan(
        guidance=1 + (published - 1) * strength,
        is_text_guided=is_text_guided,
        face_mask_factor=TEXT_MASK_FACTOR if is_text_guided else 1.0,
        is_full=done < FULL_UNTIL or done >= FULL_AGAIN or starts_part,
    )
