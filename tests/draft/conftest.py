"""Faces for the draft engine's tests, found once: a smile, closed lips behind glasses, a drawing."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from pipeline import face, media, models
from pipeline.draft.geometry import FaceGeometry, measure_face
from pipeline.draft.stage import crop_frame, crop_skin
from pipeline.plan import plan_clip

PORTRAITS = Path(__file__).parents[2] / "examples" / "portraits"
SIZE = 256  # pixels: a quarter of the work of a clip's 512, and every rule must hold there too


class Sitter(NamedTuple):
    """A face ready for the draft engine."""

    picture: np.ndarray  # (OVERSAMPLING * SIZE, OVERSAMPLING * SIZE, 3) uint8, RGB
    frame: np.ndarray  # (SIZE, SIZE, 3) uint8, RGB
    landmarks: np.ndarray  # (478, 3) float32, pixels of the frame
    mask: np.ndarray  # (SIZE, SIZE) float32, 0..1

    @property
    def geometry(self) -> FaceGeometry:
        return measure_face(self.frame, self.landmarks)


@cache
def sit(name: str) -> Sitter:
    portrait = media.load_portrait(PORTRAITS / name)
    found = face.locate(portrait, name=name)
    plan = plan_clip(seconds=1, size=SIZE, picture_size=portrait.shape[:2], faces=[found.box])
    picture = crop_skin(portrait, plan.crop, (SIZE, SIZE))
    frame = crop_frame(portrait, plan.crop, (SIZE, SIZE))
    (seen,) = face.find_faces(frame)
    return Sitter(picture, frame, seen.landmarks, models.person_mask(frame))


@pytest.fixture
def smile() -> Sitter:
    """A photograph with open, smiling lips."""
    return sit("woman_facing_camera.jpg")


@pytest.fixture
def closed() -> Sitter:
    """A photograph with closed lips and glasses."""
    return sit("officer_with_glasses.jpg")


@pytest.fixture
def drawing() -> Sitter:
    return sit("drawing_of_a_girl.jpg")
