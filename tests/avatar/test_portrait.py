"""Sizes, pixels and masks: equal to the published ones, and strict about what they are given."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.avatar.portrait import (
    check_mask,
    face_box,
    face_mask,
    latent_mask,
    portrait_pixels,
    resize_portrait,
)
from pipeline.errors import FaceNumberUnknown, PortraitWithoutFace
from pipeline.plan import published_size
from tests.avatar.checks import portrait as checks

GOLDENS = Path(__file__).parent / "goldens"
PICTURE = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)


def test_published_numbers_are_met() -> None:
    differences = list(checks.differences(GOLDENS))
    assert len(differences) >= 4
    assert [difference for difference in differences if not difference.found <= difference.tolerance] == []


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(16, 80).map(lambda n: 16 * n))
def test_every_picture_gets_a_size_of_whole_blocks_or_a_refusal(width: int, height: int, image_size: int) -> None:
    try:
        new_height, new_width = published_size(width, height, image_size)
    except ValueError as error:
        assert f"{width}×{height}" in str(error)
        assert max(width, height) / min(width, height) > 90  # at 256, the narrowest
        return
    assert new_height > 0 and new_width > 0
    assert new_height % 64 == new_width % 64 == 0
    assert published_size(height, width, image_size) == (new_width, new_height)


def test_a_short_side_that_is_not_in_the_table_has_an_area_of_one_and_a_half_squares() -> None:
    height, width = published_size(1600, 900, 640)
    assert (height, width) == (576, 1024)  # sqrt(640 * 960 / 1600 / 900) = 0.653 of 900 and 1600, rounded to 64


def test_a_picture_of_one_pixel_has_the_published_size_and_cannot_be_resized() -> None:
    assert published_size(1, 1, 704) == (704, 704)
    with pytest.raises(ValueError, match="1×1 pixels; its short side needs 16"):
        resize_portrait(np.zeros((1, 1, 3), np.uint8), 704, 704)


def test_a_side_that_rounds_to_nothing_is_refused_with_its_numbers() -> None:
    with pytest.raises(
        ValueError, match=r"10000×10 pixels at image_size 704 becomes .*×0; each side needs at least 64"
    ):
        published_size(10_000, 10, 704)


@pytest.mark.parametrize("image_size", [0, -704, 700, 8])
def test_a_size_that_is_no_multiple_of_sixteen_is_refused(image_size: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 16, got {image_size}"):
        published_size(100, 100, image_size)
    with pytest.raises(ValueError, match=f"got {image_size}×64"):
        resize_portrait(PICTURE, image_size, 64)


@pytest.mark.parametrize(("width", "height"), [(0, 10), (10, 0), (-1, 10)])
def test_a_picture_without_pixels_is_refused(width: int, height: int) -> None:
    with pytest.raises(ValueError, match=f"{width}×{height}"):
        published_size(width, height, 704)


def test_an_array_and_a_pil_picture_are_resized_alike() -> None:
    assert np.array_equal(resize_portrait(PICTURE, 64, 128), resize_portrait(Image.fromarray(PICTURE), 64, 128))


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((64, 64, 4), np.uint8), r"\(64, 64, 4\)"),
        (np.zeros((64, 64), np.uint8), r"\(64, 64\)"),
        (np.zeros((64, 64, 3), np.float32), "float32"),
        (np.zeros((0, 64, 3), np.uint8), r"\(0, 64, 3\)"),
        (Image.new("RGBA", (64, 64)), "mode RGBA"),
        (Image.new("L", (64, 64)), "mode L"),
        (np.zeros((16, 400, 3), np.uint8), "25.0 to 1"),
    ],
)
def test_a_picture_of_another_kind_is_refused_by_name(image: np.ndarray | Image.Image, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        resize_portrait(image, 64, 64)


def test_pixels_span_minus_one_to_one() -> None:
    image = np.zeros((16, 32, 3), np.uint8)
    image[3, 5] = (255, 51, 0)
    pixels = portrait_pixels(image)
    assert pixels.shape == (1, 3, 16, 32)
    assert pixels[0, :, 3, 5].tolist() == pytest.approx([1, 51 / 127.5 - 1, -1])
    assert pixels.min() == -1


def test_the_face_box_lies_in_the_resized_picture(portrait_path: Path) -> None:
    original = Image.open(portrait_path).convert("RGB")
    large, small = (resize_portrait(original, *published_size(*original.size, size)) for size in (512, 256))
    box = np.array(face_box(large))
    eyes_and_mouth = box[:2] + box[2:] * [0.5, 0.6]
    assert np.all(box[:2] > 0) and np.all(box[:2] + box[2:] < large.shape[1::-1])
    assert np.abs(np.array(face_box(small)) * 2 - box).max() < 0.1 * box[3]
    mask = face_mask(tuple(box), *large.shape[:2])
    assert mask[0, 0, 0, int(eyes_and_mouth[1]), int(eyes_and_mouth[0])] == 1
    assert 0 < mask.float().mean() < 1


def test_a_picture_without_a_face_is_an_error_and_never_the_whole_picture() -> None:
    with pytest.raises(PortraitWithoutFace, match=r"beach\.jpg"):
        face_box(np.full((256, 256, 3), 200, np.uint8), name="beach.jpg")
    with pytest.raises(ValueError, match="no face box"):
        face_mask(None, 256, 256)


def test_of_two_faces_the_larger_is_taken_or_the_one_named(portrait_path: Path) -> None:
    portrait = Image.open(portrait_path).convert("RGB")
    pair = Image.new("RGB", (768, 512), (128, 128, 128))
    pair.paste(portrait.resize((256, 256)), (0, 128))
    pair.paste(portrait.resize((512, 512)), (256, 0))
    image = np.asarray(pair)
    assert face_box(image) == face_box(image, number=1)
    assert face_box(image)[0] > 256 > face_box(image, number=2)[0]
    with pytest.raises(FaceNumberUnknown):
        face_box(image, number=3)


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ((10, 10, 0, 5), "positive size"),
        ((10, 10, -4, 5), "positive size"),
        ((10, 10, float("nan"), 5), "nan"),
        ((10, 10, 5), r"\(10, 10, 5\)"),
        ((500, 10, 20, 20), "covers no pixel"),
        ((-500, 10, 20, 20), "covers no pixel"),
    ],
)
def test_a_box_without_a_face_in_it_is_refused(box: tuple[float, ...], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        face_mask(box, 64, 64)


def test_a_mask_of_ones_per_latent_frame_keeps_its_frames() -> None:
    mask = np.zeros((3, 32, 64), np.float32)
    mask[1] = 1
    small = latent_mask(check_mask(mask, 32, 64, 3), 4, 8)
    assert small.shape == (1, 1, 3, 4, 8)
    assert small.dtype == torch.float16
    assert small.mean(dim=(0, 1, 3, 4)).tolist() == [0, 1, 0]
    assert check_mask(mask[1].astype(bool), 32, 64, 3).shape == (1, 1, 1, 32, 64)


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (np.ones((64, 32), np.float32), r"\(64, 32\)"),
        (np.ones((2, 32, 64), np.float32), r"\(2, 32, 64\)"),
        (np.ones((32, 64), np.int64), "int64"),
        (np.full((32, 64), 255, np.uint8), "255"),
        (np.full((32, 64), -0.1, np.float32), "-0.1"),
        (np.full((32, 64), np.nan, np.float32), "nan"),
    ],
)
def test_a_mask_of_the_wrong_size_type_or_range_is_refused(mask: np.ndarray, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        check_mask(mask, 32, 64, 3)


def test_a_mask_without_its_five_axes_cannot_be_brought_to_the_latents() -> None:
    with pytest.raises(ValueError, match=r"\(32, 64\)"):
        latent_mask(torch.ones(32, 64), 4, 8)
    with pytest.raises(ValueError, match="0×8"):
        latent_mask(torch.ones(1, 1, 1, 32, 64), 0, 8)
