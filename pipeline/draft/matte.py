"""The person and what stands behind: an alpha, and the background with the person's edge filled in. Moves nothing."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt, label

from pipeline.draft.geometry import FACE_OVAL, FaceGeometry

# Lengths are shares of the frame's shorter side.
GUIDE_RADIUS = 0.012  # a hair's breadth; the alpha follows the picture's edges within it
GUIDE_SMOOTHING = 1e-4  # of squared full scale: edges fainter than 1 % do not count
LEVELS = (0.15, 0.85)  # of the network's answer, stretched to 0 and 1
SOFT_EDGE = 0.006  # loose hairs beside the head move with it rather than stay behind as ghosts
MIRRORED = 0.03  # how deep behind the person the background is a mirror image: a turning head shows less
MIRROR_BLUR = 0.003  # mirror images of a curved edge break into fragments
GIVES_WAY = 0.3  # alpha below which the background is made to fit the frame, rather than the person
MIN_FACE_COVER = 0.90  # of the face oval; a matte that misses more is not one of this person
FILL_MARGIN = 0.006  # beyond the alpha, where the person's colour still tints the background


@dataclass(frozen=True)
class Matte:
    """What moves and what stays.

    Args:
        alpha: (height, width) float32, 0..1.
        background: (height, width, 3) float32, RGB: the frame with the person's edge replaced by what is around.
    """

    alpha: np.ndarray
    background: np.ndarray


def cut_out(frame: np.ndarray, mask: np.ndarray, face: FaceGeometry) -> Matte | None:
    """Part the person from the background so that laying one over the other gives the frame again.

    Args:
        frame: (height, width, 3) uint8, RGB.
        mask: (height, width) float32, 0..1, the network's answer.
        face: The face, which must lie inside the mask.

    Returns:
        None when the mask misses the face: flat drawings sometimes have no person for the network.
    """
    size = min(frame.shape[:2])
    guide = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    low, high = LEVELS
    alpha = np.clip((_guided_filter(guide, mask, max(2, round(GUIDE_RADIUS * size))) - low) / (high - low), 0, 1)
    oval = np.zeros(alpha.shape, np.uint8)
    cv2.fillPoly(oval, [np.rint(face.landmarks[FACE_OVAL, :2]).astype(np.int32)], 1)
    alpha = _part_of(alpha, oval > 0)
    if alpha[oval > 0].mean() < MIN_FACE_COVER:
        return None
    alpha = np.maximum(alpha, oval)
    reach = SOFT_EDGE * size
    alpha = np.clip(np.maximum(alpha, cv2.GaussianBlur(cv2.dilate(alpha, _disc(reach)), (0, 0), reach)), 0, 1)
    background = _fill_behind(frame, alpha, size)
    # No colour of a person, laid over this background with too little alpha, could give some pixels of the edge: there
    # alpha is raised to the least that can. Where it is nearly nothing, the background takes the pixel as it is.
    least = np.max(
        np.where(frame > background, frame - background, background - frame)
        / np.where(frame > background, 255.5 - background, background + 0.5),
        axis=-1,
    )
    alpha = np.where(alpha > GIVES_WAY, np.maximum(alpha, least), alpha).astype(np.float32)
    share = alpha[..., None]
    person = np.clip(frame - (1 - share) * background, 0, 255 * share)
    background = np.where(share > GIVES_WAY, background, (frame - person) / np.maximum(1 - share, 0.4))
    return Matte(alpha, np.clip(background, 0, 255).astype(np.float32))


def _guided_filter(guide: np.ndarray, mask: np.ndarray, radius: int) -> np.ndarray:
    """Let a soft mask follow the edges of the picture. Source: He et al., Guided Image Filtering, algorithm 1."""

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (2 * radius + 1,) * 2)

    mean_guide, mean_mask = mean(guide), mean(mask)
    slope = (mean(guide * mask) - mean_guide * mean_mask) / (mean(guide * guide) - mean_guide**2 + GUIDE_SMOOTHING)
    return mean(slope) * guide + mean(mean_mask - slope * mean_guide)


def _part_of(alpha: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The person who has a face (height, width) bool, without strangers and without holes."""
    parts, _ = label(alpha > 0.5)
    sizes = np.bincount(parts[face], minlength=1)
    sizes[0] = 0
    if not sizes.any():
        return alpha
    person = binary_fill_holes(parts == sizes.argmax())
    nearby = cv2.dilate(person.astype(np.uint8), _disc(6))
    return np.where(person & (alpha < 0.5), 1, alpha * nearby).astype(np.float32)


def _fill_behind(frame: np.ndarray, alpha: np.ndarray, size: int) -> np.ndarray:
    """The frame with the person replaced by the background around: mirrored at the edge, a smooth mix further in.

    Returns:
        (height, width, 3) float32, RGB.
    """
    person = cv2.dilate((alpha > 0.02).astype(np.float32), _disc(FILL_MARGIN * size))
    known = 1 - person[..., None]
    levels: list[np.ndarray] = [np.dstack([frame * known, known]).astype(np.float32)]
    while min(levels[-1].shape[:2]) > 2:
        levels.append(cv2.pyrDown(levels[-1]))
    mix: np.ndarray = levels[-1]
    for level in reversed(levels[:-1]):  # coarse colours show only where no finer level knows any
        coarse = cv2.resize(mix, (level.shape[1], level.shape[0]), interpolation=cv2.INTER_LINEAR)
        mix = level + (1 - level[..., 3:]) * coarse / np.maximum(coarse[..., 3:], 1e-3)

    depth, nearest = distance_transform_edt(person, return_indices=True)
    rows, columns = np.indices(person.shape)
    mirror_rows = np.clip(2 * nearest[0] - rows, 0, person.shape[0] - 1)
    mirror_columns = np.clip(2 * nearest[1] - columns, 0, person.shape[1] - 1)
    mirrored = cv2.GaussianBlur(frame[mirror_rows, mirror_columns].astype(np.float32), (0, 0), MIRROR_BLUR * size)
    usable = (person[mirror_rows, mirror_columns] == 0).astype(np.float32)
    usable = cv2.blur(usable, (5, 5)) * np.clip(2 - depth / (MIRRORED * size), 0, 1)
    fill = mix[..., :3] + usable[..., None].astype(np.float32) * (mirrored - mix[..., :3])
    return frame * known + fill * (1 - known)


def _disc(radius: float) -> np.ndarray:
    """A round kernel of about `radius` pixels."""
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
