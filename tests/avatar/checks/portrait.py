"""The picture's sizes, pixels and masks beside those of the published code."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pipeline.avatar.portrait import face_mask, latent_mask, resize_portrait
from pipeline.plan import published_size
from tests.avatar.checks import Difference


def differences(folder: Path) -> Iterator[Difference]:
    """preprocess.json (tables: entries that differ), image_tiny (the picture) and face_mask_tiny."""
    tables = json.loads(path.read_text()) if (path := folder / "preprocess.json").exists() else None
    if tables:
        rows = tables["resize"]["table"]
        wrong = sum(
            published_size(row["w"], row["h"], row["image_size"]) != (row["new_h"], row["new_w"])
            or (row["new_h"] // 8, row["new_w"] // 8) != (row["latent_h"], row["latent_w"])
            for row in rows
        )
        yield Difference(f"preprocess.json resize ({len(rows)} rows)", wrong, 0)
        rows = tables["face_mask"]["table"]
        yield Difference(f"preprocess.json face_mask ({len(rows)} rows)", sum(map(_mask_differs, rows)), 0)
    if (path := folder / "image_tiny.safetensors").exists():
        with safe_open(path, "pt") as file:
            image_size = int(file.metadata()["image_size"])
            image = file.get_tensor("in.image_hwc_uint8").numpy()
            golden = file.get_tensor("out.pixel_value_ref_fp16")[0].permute(1, 2, 0).numpy()
        found = resize_portrait(image, *published_size(image.shape[1], image.shape[0], image_size))
        yield Difference(
            "image_tiny pixel_value_ref", float(np.abs(found.astype(np.float32) - golden.astype(np.float32)).max()), 0
        )
    if (path := folder / "face_mask_tiny.safetensors").exists():
        goldens = load_file(path)
        for name in sorted({key.split(".")[0] for key in goldens}):
            mask, golden = goldens[f"{name}.mask_uint8"], goldens[f"{name}.latent_mask_fp16"]
            found = latent_mask(mask, *golden.shape[-2:])
            yield Difference(f"face_mask_tiny {name} latent", (found.float() - golden.float()).abs().max().item(), 0)
            if tables:  # faceN is row N of the table
                row = tables["face_mask"]["table"][int(name.removeprefix("face"))]
                found = face_mask(row["bbox_xywh"], row["image_h"], row["image_w"])
                yield Difference(f"face_mask_tiny {name} mask", (found.int() - mask.int()).abs().max().item(), 0)


def _mask_differs(row: dict[str, Any]) -> bool:
    """Whether a row of the table is not met. Without a box, or with an empty one, it is met by a refusal."""
    if row["bbox_xywh"] is None or row["rect_x1y1x2y2"] is None:
        try:
            face_mask(row["bbox_xywh"], row["image_h"], row["image_w"])
        except ValueError:
            return False
        return True
    mask = face_mask(row["bbox_xywh"], row["image_h"], row["image_w"])
    left, top, right, bottom = row["rect_x1y1x2y2"]
    expected = torch.zeros_like(mask)
    expected[..., top:bottom, left:right] = 1
    small = latent_mask(mask, *row["latent_shape"][-2:])
    found = (list(small.shape), small.sum(dtype=torch.float64).item(), small.min().item(), small.max().item())
    golden = (row["latent_shape"], row["latent_mask_sum"], row["latent_min"], row["latent_max"])
    return not torch.equal(mask, expected) or found != golden
