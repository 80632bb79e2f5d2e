"""A whole pipeline of real classes, built tiny, and what goes into it."""

import numpy as np
import pytest
from PIL import Image

from pipeline.avatar.audio import load_waveform
from pipeline.avatar.pipeline_hunyuan_avatar import HunyuanVideoAvatarPipeline
from tests.avatar.builds import make_pipeline
from tests.conftest import EXAMPLES


@pytest.fixture(scope="session")
def pipe() -> HunyuanVideoAvatarPipeline:
    """The tiny pipeline; whoever changes it puts it back."""
    return make_pipeline()


@pytest.fixture(scope="session")
def portrait() -> Image.Image:
    """A photograph of one face."""
    with Image.open(EXAMPLES / "portraits" / "woman_facing_camera.jpg") as opened:
        return opened.convert("RGB")


@pytest.fixture(scope="session")
def voice() -> np.ndarray:
    """(samples,) eight seconds of real speech."""
    return load_waveform(EXAMPLES / "voices" / "english_calm_8s.wav")
