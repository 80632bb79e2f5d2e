"""The published weights: every name, bad files, and a conversion that stops, goes on and reads back."""

import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLHunyuanVideo
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    PreTrainedModel,
    WhisperForConditionalGeneration,
    WhisperModel,
)

from pipeline.avatar import shards, weights
from pipeline.avatar.fp8 import FP8, ScaledFp8Linear, swap_linears
from pipeline.avatar.shards import INDEX, RECORD
from pipeline.avatar.tiny import (
    clip_tokenizer,
    in_fp8,
    llama_tokenizer,
    make_clip,
    make_llava,
    make_whisper,
    published_tensors,
)
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from pipeline.avatar.weights import (
    LAYERS,
    build_transformer,
    convert_transformer_file,
    convert_vae_file,
    is_converted,
    load_encoder,
    load_published_transformer,
    load_transformer,
    load_vae,
    open_published,
    open_published_vae,
    our_names,
    published_name,
    transformer_config_of,
    transformer_of,
)
from pipeline.errors import (
    DiskFull,
    FileMissing,
    SpaceMissing,
    WeightsMismatch,
    WeightsNotFound,
    WeightsUnreadable,
    WeightsUnsupported,
)
from tests.avatar.checks.weights import differences, shapes_of, stored
from tests.avatar.processes import run_apart
from tests.avatar.published import TINY, watched

GOLDENS = Path(__file__).parent / "goldens"
ROPE = TINY["rope_axes_dim"]
SMALL_SHARDS = 250 * 2**10 / 2**30  # GiB; the tiny transformer makes several of them
MEBIBYTE = 2**20  # bytes

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    """A tiny transformer under its published names, bf16."""
    return published_tensors(TINY)


@pytest.fixture
def source(tensors, tmp_path) -> Path:
    """The same in a published file."""
    path = tmp_path / "mp_rank_00_model_states.pt"
    torch.save({"module": tensors}, path)
    return path


@pytest.fixture
def fp8_files(tensors, tmp_path) -> tuple[Path, Path]:
    """The same in fp8, and its map."""
    path, scale_map = tmp_path / "model_states_fp8.pt", tmp_path / "model_states_fp8_map.pt"
    packed, scales = in_fp8(TINY, tensors)
    torch.save({"module": packed}, path)
    torch.save({"module": scales}, scale_map)
    return path, scale_map


def convert(path: Path, target: Path, **options: object) -> Path:
    return convert_transformer_file(path, target, rope_axes_dim=ROPE, shard_gib=SMALL_SHARDS, **options)  # type: ignore[arg-type]


def same(found: Tensors, wanted: Tensors) -> bool:
    return list(found) == list(wanted) and all(torch.equal(found[name], wanted[name]) for name in wanted)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != RECORD}


# --- names and sizes --------------------------------------------------------------------------------------------------


def test_every_name_of_the_goldens_and_of_the_real_files_is_accounted_for():
    found = {one.golden: one.found for one in differences(GOLDENS)}
    assert {"manifest_transformer, names", "manifest_vae, names", "keymap_diffusers, entries"} <= set(found)
    assert {"transformer_tiny, names", "vae_tiny, names"} <= set(found)
    assert {"manifest_transformer, parameters", "manifest_vae, parameters"} <= set(found)
    assert all(count == 0 for count in found.values()), found


def test_a_name_missing_from_a_manifest_is_noticed(tmp_path):
    for name in ("manifest_transformer.json", "manifest_vae.json"):
        manifest = json.loads((GOLDENS / name).read_text("utf-8"))
        del manifest["keys"][list(manifest["keys"])[-1]]
        (tmp_path / name).write_text(json.dumps(manifest), "utf-8")
    found = {one.golden: one.found for one in differences(tmp_path)}
    assert found["manifest_transformer, names"] == found["manifest_vae, names"] == 1


def test_published_names_lead_to_ours_and_back():
    manifest = json.loads((GOLDENS / "manifest_transformer.json").read_text("utf-8"))
    assert len(manifest["keys"]) == manifest["n_keys"] == 946
    ours = {name: our_names(name) for name in manifest["keys"]}
    assert all(published_name(part) == name for name, parts in ours.items() for part in parts or ("",))
    every = [part for parts in ours.values() for part in parts or ()]
    assert len(every) == len(set(every))


def test_every_row_of_the_table_is_used_by_the_published_model():
    manifest = json.loads((GOLDENS / "manifest_transformer.json").read_text("utf-8"))
    used = {weights._numbered(name.rpartition(".")[0])[0] for name in manifest["keys"]}
    assert used == set(LAYERS)


def test_the_320_layers_that_the_published_fp8_file_packs_are_those_we_keep_in_fp8():
    manifest = json.loads((GOLDENS / "manifest_transformer.json").read_text("utf-8"))
    shapes = {name: entry["shape"] for name, entry in manifest["keys"].items()}
    model = build_transformer(transformer_config_of(shapes))
    layers = {published_name(f"{name}.weight") for name in swap_linears(model)}
    wanted = {
        name
        for name, shape in shapes.items()
        if name.startswith(("double_blocks.", "single_blocks.")) and name.endswith(".weight") and len(shape) == 2
    }
    assert layers == wanted and len(layers) == manifest["fp8"]["n_linear_layers"] == 320
    elements = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, ScaledFp8Linear))
    assert elements == manifest["fp8"]["weight_elements"]


def test_names_that_are_not_published_have_no_place():
    assert our_names("guidance_in.mlp.0.weight") is None and our_names("nonsense") is None
    assert published_name("rope.freqs") is None
    with pytest.raises(ValueError, match="nonsense"):
        weights.published_shapes({"nonsense.weight": (1,)})


def test_sizes_are_read_from_the_shapes(tensors):
    found = transformer_config_of(shapes_of(tensors), rope_axes_dim=ROPE)
    assert TINY.items() <= found.items()
    assert shapes_of(build_transformer(found).state_dict()) == shapes_of(build_transformer(TINY).state_dict())


def test_the_published_sizes_are_the_models_own_defaults():
    manifest = json.loads((GOLDENS / "manifest_transformer.json").read_text("utf-8"))
    found = transformer_config_of({name: entry["shape"] for name, entry in manifest["keys"].items()})
    defaults = build_transformer({}).config
    assert all(defaults[name] == value for name, value in found.items())


@pytest.mark.parametrize("given", [None, (8, 12, 11)])
def test_rotary_widths_that_no_weight_tells_must_be_given(tensors, given):
    with pytest.raises(ValueError, match="adding up to 32"):
        transformer_config_of(shapes_of(tensors), rope_axes_dim=given)


# --- opening ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["module", "ema", "state_dict", None])
def test_a_published_file_opens_whatever_is_wrapped_around_it(tensors, tmp_path, key):
    path = tmp_path / "weights.pt"
    torch.save({key: tensors, "epoch": 3} if key else tensors, path)
    assert same(open_published(path), tensors)


def test_the_published_file_is_found_in_its_folder(source, fp8_files, tensors):
    assert same(open_published(source.parent), tensors)


def test_safetensors_open_too(tensors, tmp_path):
    save_file(tensors, tmp_path / "weights.safetensors")
    found = open_published(tmp_path / "weights.safetensors")
    assert set(found) == set(tensors) and all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_a_folder_with_no_weights_or_two_is_refused(source):
    empty = source.parent / "empty"
    empty.mkdir()
    with pytest.raises(WeightsNotFound, match=r"\*_model_states\.pt"):
        open_published(empty)
    shutil.copy(source, source.with_name("mp_rank_01_model_states.pt"))
    with pytest.raises(WeightsNotFound, match=r"mp_rank_00_model_states\.pt, mp_rank_01_model_states\.pt"):
        open_published(source.parent)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileMissing, match=r"absent\.pt"):
        open_published(tmp_path / "absent.pt")


class Intruder:
    """Writes a file when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def truncated(path: Path, tensors: Tensors) -> None:
    torch.save({"module": tensors}, path)
    os.truncate(path, path.stat().st_size // 2)


BAD_FILES: dict[str, tuple[str, Callable[[Path, Tensors], object], str]] = {
    "empty": ("a.pt", lambda path, _: path.touch(), "empty"),
    "empty safetensors": ("a.safetensors", lambda path, _: path.touch(), "empty"),
    "truncated": ("a.pt", truncated, "whole file is needed"),
    "text": ("a.pt", lambda path, _: path.write_text("<html>Not found</html>"), "not a file saved by PyTorch"),
    "safetensors called .pt": ("a.pt", lambda path, tensors: save_file(tensors, path), "is a safetensors file"),
    ".pt called safetensors": (
        "a.safetensors",
        lambda path, tensors: torch.save(tensors, path.open("wb")),
        "not a safetensors file",
    ),
    "old": (
        "a.pt",
        lambda path, tensors: torch.save(tensors, path, _use_new_zipfile_serialization=False),
        "before version 1.6",
    ),
    "list": ("a.pt", lambda path, tensors: torch.save(list(tensors.values()), path), "no table of named tensors"),
    "no tensors": ("a.pt", lambda path, _: torch.save({}, path), "no table of named tensors"),
    "numbers": ("a.pt", lambda path, _: torch.save({"module": {"step": 3}}, path), "step is a int"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_holds_no_whole_weights_is_refused_with_its_name_and_size(kind, tensors, tmp_path):
    name, write, said = BAD_FILES[kind]
    path = tmp_path / name
    write(path, tensors)
    with pytest.raises(WeightsUnreadable, match=said) as caught:
        open_published(path)
    assert f"{name} ({path.stat().st_size} bytes)" in str(caught.value)
    assert f"{path.stat().st_size} octets" in caught.value.text("fr")


def test_a_safetensors_file_cut_short_is_refused(tensors, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(tensors, path)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(WeightsUnreadable, match="whole file is needed"):
        open_published(path)


def test_nothing_in_a_file_is_executed(tmp_path):
    path, trace = tmp_path / "a.pt", tmp_path / "trace"
    torch.save({"module": {"weight": Intruder(trace)}}, path)
    with pytest.raises(WeightsUnreadable, match="program objects"):
        open_published(path)
    assert not trace.exists()


# --- checks -----------------------------------------------------------------------------------------------------------


def refused(tensors: Tensors, tmp_path: Path, scales: Tensors | None = None) -> Exception:
    """The error that converting these raises; nothing is left of the attempt."""
    path, scale_map = tmp_path / "bad.pt", tmp_path / "bad_map.pt"
    torch.save({"module": tensors}, path)
    if scales is not None:
        torch.save({"module": scales}, scale_map)
    with pytest.raises((WeightsMismatch, WeightsUnsupported)) as caught:
        convert(path, tmp_path / "target", scale_map=None if scales is None else scale_map)
    with pytest.raises(type(caught.value)):
        load_published_transformer(path, rope_axes_dim=ROPE, scale_map=None if scales is None else scale_map)
    assert not (tmp_path / "target").exists()
    return caught.value


def test_missing_unexpected_and_misshapen_names_are_listed(tensors, tmp_path):
    tensors = dict(tensors)
    for name in [name for name in tensors if name.startswith("motion_exp.")]:
        del tensors[name]
    tensors["surplus.weight"] = torch.zeros(2, dtype=torch.bfloat16)
    tensors["before_proj.bias"] = torch.zeros(3, dtype=torch.bfloat16)
    error = refused(tensors, tmp_path)
    assert isinstance(error, WeightsMismatch)
    assert [error.values[f"num_{kind}"] for kind in ("missing", "unexpected", "misshapen")] == [4, 1, 1]
    assert "motion_exp.mlp.0.weight, motion_exp.mlp.0.bias, motion_exp.mlp.2.weight …" in str(error)
    assert "1 unexpected (surplus.weight)" in str(error) and "before_proj.bias [3] ≠ [64]" in str(error)
    assert str(error).startswith("transformer: 4 names missing")
    assert "4 noms manquants" in error.text("fr")


def test_hunyuanvideo_without_its_audio_parts_is_named(tensors, tmp_path):
    added = ("audio_", "ref_in.", "before_proj.", "motion_", "fps_proj.")
    plain = {name: tensor for name, tensor in tensors.items() if not name.startswith(added)}
    error = refused(plain, tmp_path)
    assert isinstance(error, WeightsMismatch) and "HunyuanVideo without the audio parts" in str(error)
    assert error.values["num_missing"] == len(tensors) - len(plain) and error.values["num_unexpected"] == 0
    assert "without the audio" not in str(refused({**plain, "audio_proj.norm.bias": torch.zeros(64)}, tmp_path))


def test_another_models_file_is_refused_with_all_names_missing(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"conv.weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsMismatch, match=r"946 names missing .* 1 unexpected"):
        convert_transformer_file(path, tmp_path / "target")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("before_proj.weight._data", torch.int8), ("before_proj.weight", torch.int8), ("x.weight._scale", torch.bfloat16)],
)
def test_int8_weights_are_refused_by_name(tensors, tmp_path, name, dtype):
    error = refused({**tensors, name: torch.zeros(64, 64, dtype=dtype)}, tmp_path)
    assert isinstance(error, WeightsUnsupported) and "int8" in str(error) and name in str(error)


def test_another_type_is_refused_by_name(tensors, tmp_path):
    error = refused({**tensors, "before_proj.bias": torch.zeros(64, dtype=torch.int64)}, tmp_path)
    assert isinstance(error, WeightsUnsupported) and "before_proj.bias is torch.int64" in str(error)


def test_fp8_without_its_map_and_a_map_without_fp8_are_refused(tensors, tmp_path):
    packed, scales = in_fp8(TINY, tensors)
    error = refused(packed, tmp_path)
    assert isinstance(error, WeightsUnsupported) and f"{len(scales)} layers are in fp8" in str(error)
    error = refused(tensors, tmp_path, scales)
    assert isinstance(error, WeightsUnsupported) and "no layer is in fp8" in str(error)


def test_a_map_must_fit_its_file_layer_by_layer(tensors, tmp_path):
    packed, scales = in_fp8(TINY, tensors)
    layer, one = "double_blocks.0.img_attn_qkv", torch.ones(())
    assert f"1 names missing ({layer})" in str(
        refused(packed, tmp_path, {key: scales[key] for key in scales if key != layer})
    )
    assert "1 unexpected (double_blocks.99.img_attn_qkv)" in str(
        refused(packed, tmp_path, {**scales, "double_blocks.99.img_attn_qkv": one})
    )
    assert f"{layer} [2] ≠ []" in str(refused(packed, tmp_path, {**scales, layer: torch.ones(2)}))
    for value in (0.0, -1.0, float("nan"), float("inf")):
        assert f"the scale of {layer} is {value}" in str(refused(packed, tmp_path, {**scales, layer: one * value}))


def test_a_layer_that_is_fp8_in_half_a_file_is_refused(tensors, tmp_path):
    packed, scales = in_fp8(TINY, tensors)
    layer = "single_blocks.0.linear1"
    mixed = {**packed, f"{layer}.weight": tensors[f"{layer}.weight"]}
    assert f"1 names missing ({layer})" in str(refused(mixed, tmp_path, scales))
    adapter = "audio_adapter_blocks.0.to_q"
    mixed = {**packed, f"{adapter}.weight": packed[f"{adapter}.weight"].to(FP8)}
    assert f"1 unexpected ({adapter})" in str(refused(mixed, tmp_path, {**scales, adapter: torch.ones(())}))


# --- conversion -------------------------------------------------------------------------------------------------------


def test_a_converted_folder_opens_with_from_pretrained(source, tensors, tmp_path):
    target = convert(source, tmp_path / "target")
    opened, info = HunyuanVideoAvatarTransformer3DModel.from_pretrained(
        target, torch_dtype=torch.bfloat16, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    loaded = load_transformer(target)
    direct = load_published_transformer(source, rope_axes_dim=ROPE)
    assert same(loaded.state_dict(), opened.state_dict()) and same(direct.state_dict(), opened.state_dict())
    assert not loaded.training and not direct.training
    qkv = tensors["double_blocks.2.txt_attn_qkv.weight"]
    attention = opened.transformer_blocks[2].attn
    parts = [attention.add_q_proj.weight, attention.add_k_proj.weight, attention.add_v_proj.weight]
    assert torch.equal(torch.cat(parts), qkv)
    shift, scale = tensors["final_layer.adaLN_modulation.1.weight"].chunk(2)
    assert torch.equal(opened.norm_out.linear.weight, torch.cat([scale, shift]))


def test_a_folder_keeps_every_tensors_type_and_a_model_has_one(tensors, tmp_path):
    mixed = {**tensors, "before_proj.weight": tensors["before_proj.weight"].float()}
    torch.save({"module": mixed}, tmp_path / "mixed.pt")
    target = convert(tmp_path / "mixed.pt", tmp_path / "target")
    held: Tensors = {}
    for path in target.glob("*.safetensors"):
        held |= load_file(path)
    assert held["ref_proj.weight"].dtype == torch.float32 and held["ref_proj.bias"].dtype == torch.bfloat16
    for dtype in (torch.bfloat16, torch.float32):
        assert {tensor.dtype for tensor in load_transformer(target, dtype=dtype).state_dict().values()} == {dtype}
    with pytest.raises(TypeError, match=r"torch\.dtype, got None"):
        load_transformer(target, dtype=None)


def test_a_converted_fp8_file_keeps_its_bytes_and_repeats_its_scales(fp8_files, tensors, tmp_path):
    packed, scales = in_fp8(TINY, tensors)
    target = convert(fp8_files[0], tmp_path / "target", scale_map=fp8_files[1])
    model = load_transformer(target)
    layers = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
    parts = [model.single_transformer_blocks[1].get_submodule(name) for name in layers]
    assert all(isinstance(part, ScaledFp8Linear) for part in parts)
    found = torch.cat([part.weight.view(torch.uint8) for part in parts])
    assert torch.equal(found, packed["single_blocks.1.linear1.weight"].view(torch.uint8))
    assert {float(part.weight_scale) for part in parts} == {float(scales["single_blocks.1.linear1"])}
    assert model.transformer_blocks[1].audio_adapter.to_q.weight.dtype == torch.bfloat16
    direct = load_published_transformer(fp8_files[0], scale_map=fp8_files[1], rope_axes_dim=ROPE)
    ours, wanted = model.state_dict(), direct.state_dict()
    assert set(ours) == set(wanted) and all(torch.equal(ours[name].float(), wanted[name].float()) for name in wanted)


def test_from_pretrained_refuses_an_fp8_folder(fp8_files, tmp_path):
    target = convert(fp8_files[0], tmp_path / "target", scale_map=fp8_files[1])
    with pytest.raises(ValueError, match="scaled_fp8"):
        HunyuanVideoAvatarTransformer3DModel.from_pretrained(target)


def test_a_shard_is_a_safetensors_file_within_its_size(source, tmp_path):
    target = convert(source, tmp_path / "target")
    files = sorted(target.glob("*.safetensors"))
    index = json.loads((target / INDEX).read_text("utf-8"))
    assert len(files) > 3 and set(index["weight_map"].values()) == {path.name for path in files}
    total = 0
    for path in files:
        with safe_open(path, "pt") as file:
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        assert {name for name, place in index["weight_map"].items() if place == path.name} == set(held)
        size = sum(tensor.nbytes for tensor in held.values())
        assert size <= SMALL_SHARDS * 2**30 or len(held) == 1
        total += size
    assert index["metadata"]["total_size"] == total


def test_progress_rises_to_the_whole(source, tmp_path):
    told: list[tuple[int, int]] = []
    convert(source, tmp_path / "target", on_progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len({total for _, total in told}) == 1 and told[-1][0] == told[-1][1] and len(told) > 100


class Stopped(Exception):
    """Raised from a progress report, as a cancelled conversion does."""


def stop_after(share: float) -> Callable[[int, int], None]:
    def on_progress(done: int, total: int) -> None:
        if done > share * total:
            raise Stopped

    return on_progress


def test_an_interrupted_conversion_goes_on_with_the_shards_already_whole(source, tmp_path):
    wanted = contents(convert(source, tmp_path / "straight"))
    target = tmp_path / "target"
    with pytest.raises(Stopped):
        convert(source, target, on_progress=stop_after(0.5))
    kept = {path.name: path.stat().st_mtime_ns for path in target.glob("*.safetensors")}
    assert len(kept) > 1 and not (target / INDEX).exists() and not list(target.glob("*.part"))
    with pytest.raises(WeightsNotFound, match=r"index\.json"):
        load_transformer(target)
    told: list[int] = []
    convert(source, target, on_progress=lambda done, _: told.append(done))
    assert {name: (target / name).stat().st_mtime_ns for name in kept} == kept
    assert told[0] > 0 and told == sorted(told)
    assert contents(target) == wanted


def test_a_shard_that_changed_meanwhile_is_written_again(source, tmp_path):
    target = convert(source, tmp_path / "target")
    wanted = contents(target)
    damaged, absent = sorted(target.glob("*.safetensors"))[:2]
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    absent.unlink()
    untouched = sorted(target.glob("*.safetensors"))[-1]
    before = untouched.stat().st_mtime_ns
    convert(source, target)
    assert contents(target) == wanted and untouched.stat().st_mtime_ns == before


def test_another_source_starts_afresh(source, tensors, tmp_path):
    target = convert(source, tmp_path / "target")
    torch.save({"module": {name: tensor + 1 for name, tensor in tensors.items()}}, source)
    convert_transformer_file(source, target, rope_axes_dim=ROPE)
    assert len(list(target.glob("*.safetensors"))) == 1
    assert torch.equal(load_transformer(target).ref_proj.bias, tensors["before_proj.bias"] + 1)


def test_what_a_killed_conversion_left_behind_is_no_obstacle(source, tmp_path):
    wanted = contents(convert(source, tmp_path / "straight"))
    target = tmp_path / "target"
    with pytest.raises(Stopped):
        convert(source, target, on_progress=stop_after(0.5))
    next_shard = sorted(set(wanted) - {path.name for path in target.iterdir()})[0]
    left = target / f"{next_shard}.0123abcd.part"
    left.write_bytes(b"half")
    os.utime(left, (0, time.time() - shards.STALE_SECONDS - 1))
    (target / next_shard).write_bytes(wanted[next_shard][:-1])
    convert(source, target)
    assert contents(target) == wanted


def test_two_conversions_into_one_folder_end_whole_whoever_is_first(source, tmp_path):
    wanted = contents(convert(source, tmp_path / "straight"))
    target = tmp_path / "target"
    readable: list[bool] = []

    def another_overtakes(done: int, total: int) -> None:
        if not readable:
            assert list(target.glob("*.part")), "the first one is in the midst of a shard"
            convert(source, target)
        readable.append(is_converted(source, target, shard_gib=SMALL_SHARDS))

    convert(source, target, on_progress=another_overtakes)
    convert(source, target, on_progress=another_overtakes)  # begun before it was known that all is done
    assert all(readable), "what the other one had finished was taken away for a time"
    assert contents(target) == wanted
    record = json.loads((target / RECORD).read_text("utf-8"))
    assert set(record["sha256"]) == {name for name in wanted if name.endswith(".safetensors")}


def convert_and_load(source: Path, target: Path) -> None:
    convert(source, target)
    load_transformer(target)


def test_two_processes_converting_into_one_folder_both_end_well(source, tmp_path):
    run_apart(convert_and_load, source, tmp_path / "target", count=2)
    assert contents(tmp_path / "target") == contents(convert(source, tmp_path / "straight"))


def test_a_finished_conversion_is_known_until_source_or_folder_change(source, fp8_files, tensors, tmp_path):
    target = tmp_path / "target"

    def known(**options: object) -> bool:
        return is_converted(source, target, **{"shard_gib": SMALL_SHARDS, **options})  # type: ignore[arg-type]

    assert not known()
    with pytest.raises(Stopped):
        convert(source, target, on_progress=stop_after(0.5))
    assert not known()
    convert(source, target)
    assert known()
    assert not known(shard_gib=1.0) and not known(scale_map=fp8_files[1])

    data = source.read_bytes()
    changed = source.stat().st_mtime_ns
    os.utime(source, ns=(changed, changed + 1))
    assert not known()  # replaced by a file of the same length
    source.write_bytes(data + b" ")
    os.utime(source, ns=(changed, changed))
    assert not known()  # replaced by a longer one with the old time
    source.write_bytes(data)
    os.utime(source, ns=(changed, changed))
    assert known()
    source.rename(tmp_path / "elsewhere")
    assert known()  # cannot be compared
    (tmp_path / "elsewhere").rename(source)

    shard = sorted(target.glob("*.safetensors"))[1]
    for path in (target / "config.json", target / INDEX, target / RECORD, shard):
        path.rename(tmp_path / "away")
        assert not known(), path.name
        (tmp_path / "away").rename(path)
    assert known()
    os.truncate(shard, shard.stat().st_size - 1)
    assert not known()
    convert(source, target)
    assert known()


def test_a_finished_fp8_conversion_is_known_until_its_map_changes(fp8_files, tmp_path):
    source, scale_map = fp8_files
    target = convert(source, tmp_path / "target", scale_map=scale_map)
    assert is_converted(source, target, scale_map=scale_map, shard_gib=SMALL_SHARDS)
    changed = scale_map.stat().st_mtime_ns
    os.utime(scale_map, ns=(changed, changed + 1))
    assert not is_converted(source, target, scale_map=scale_map, shard_gib=SMALL_SHARDS)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named_and_leaves_whole_shards_only(source, tmp_path, monkeypatch):
    wanted = contents(convert(source, tmp_path / "straight"))
    second = sorted(name for name in wanted if name.endswith(".safetensors"))[1]
    target = tmp_path / "target"
    target.mkdir()
    (target / f"{second}.part").symlink_to("/dev/full")
    with monkeypatch.context() as fixed_names, pytest.raises(DiskFull, match=str(target)):
        fixed_names.setattr(shards, "_part_of", lambda path: path.with_name(f"{path.name}.part"))
        convert(source, target)
    assert [path.name for path in target.glob("*.safetensors*")] == [second.replace("00002-", "00001-")]
    convert(source, target)
    assert contents(target) == wanted


def test_too_little_room_is_told_before_anything_is_written(source, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=MEBIBYTE // 4))
    with pytest.raises(SpaceMissing, match="MiB are needed"):
        convert(source, tmp_path / "target")
    assert not list((tmp_path / "target").glob("*.safetensors*"))


def test_other_troubles_of_the_disk_stay_as_they_are(source, tmp_path, monkeypatch):
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(shards.os, "fsync", fsync)
    with pytest.raises(OSError, match="broken"):
        convert(source, tmp_path / "target")
    assert not list((tmp_path / "target").glob("*.safetensors*"))


def test_a_disk_that_gives_back_other_bytes_is_noticed(source, tmp_path, monkeypatch):
    flush = os.fsync

    def spoil(descriptor: int) -> None:
        flush(descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # folders are flushed, too
            os.pwrite(descriptor, b"\xff\xff", os.fstat(descriptor).st_size - 2)

    monkeypatch.setattr(shards.os, "fsync", spoil)
    with pytest.raises(WeightsUnreadable, match="not what was written"):
        convert(source, tmp_path / "target")
    assert not list((tmp_path / "target").glob("*.safetensors*"))


def test_a_folder_that_lost_a_shard_or_a_part_of_one_is_refused(source, tmp_path):
    target = convert(source, tmp_path / "target")
    first, second = sorted(target.glob("*.safetensors"))[:2]
    os.truncate(second, second.stat().st_size - 1)
    with pytest.raises(WeightsUnreadable, match=second.name):
        load_transformer(target)
    first.unlink()
    with pytest.raises(WeightsNotFound, match=first.name):
        load_transformer(target)


def test_a_folder_with_other_tensors_is_refused(source, tmp_path):
    target = convert(source, tmp_path / "target")
    path = sorted(target.glob("*.safetensors"))[0]
    held = load_file(path)
    lost = next(iter(held))
    held["surplus"] = held.pop(lost)
    save_file(held, path)
    with pytest.raises(WeightsMismatch, match=rf"1 names missing \({lost}\), 1 unexpected \(surplus\)"):
        load_transformer(target)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of memory")
def test_memory_stays_near_one_shard_whatever_the_files_size(tmp_path):
    config = {
        "num_attention_heads": 6,
        "attention_head_dim": 128,
        "num_layers": 2,
        "num_single_layers": 4,
    }
    source, shard_mebibytes = tmp_path / "a_model_states.pt", 24
    tensors = published_tensors(config)
    torch.save({"module": tensors}, source)
    largest = max(tensor.nbytes for tensor in tensors.values())
    del tensors
    size = source.stat().st_size
    assert size > 200 * MEBIBYTE
    arguments = (
        "-m",
        "tests.benchmarks.avatar_convert",
        "convert",
        source,
        tmp_path / "target",
        shard_mebibytes / 1024,
    )
    printed, peak = watched(*arguments)
    growth = peak - json.loads(printed.splitlines()[-1])["before"]
    assert (tmp_path / "target" / INDEX).exists()
    assert largest / 2 < growth < 2 * max(largest, shard_mebibytes * MEBIBYTE) < size / 2


# --- VAE --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def vae_source(tmp_path) -> Path:
    """The golden's VAE in a published file."""
    folder = tmp_path / "vae"
    folder.mkdir()
    tensors = {f"vae.{name}": tensor for name, tensor in stored(GOLDENS / "vae_tiny.safetensors").items()}
    torch.save({"state_dict": tensors}, folder / "pytorch_model.pt")
    return folder


def test_a_converted_vae_opens_with_from_pretrained(vae_source, tmp_path):
    target = convert_vae_file(vae_source, tmp_path / "target", norm_num_groups=4, shard_gib=SMALL_SHARDS)
    vae, info = AutoencoderKLHunyuanVideo.from_pretrained(target, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    wanted = stored(GOLDENS / "vae_tiny.safetensors")
    found = vae.state_dict()
    assert set(found) == set(wanted) and all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert vae.config.scaling_factor == 0.476986


def test_a_converted_vae_loads_strictly_and_is_known(vae_source, tmp_path):
    target = convert_vae_file(vae_source, tmp_path / "target", norm_num_groups=4)
    assert is_converted(vae_source, target) and is_converted(vae_source / "pytorch_model.pt", target)
    vae, wanted = load_vae(target, dtype=torch.float32), stored(GOLDENS / "vae_tiny.safetensors")
    found = vae.state_dict()
    assert set(found) == set(wanted) and all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not vae.training and load_vae(target).dtype == torch.float16

    (path,) = target.glob("*.safetensors")
    held = load_file(path)
    lost = held.pop("decoder.conv_in.conv.bias")
    save_file(held, path)
    with pytest.raises(WeightsMismatch, match=r"vae: 1 names missing \(decoder\.conv_in\.conv\.bias\)"):
        load_vae(target)
    save_file({**held, "decoder.conv_in.conv.bias": lost[:3].clone()}, path)
    with pytest.raises(WeightsMismatch, match=r"decoder\.conv_in\.conv\.bias \[3\] ≠ "):
        load_vae(target)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(WeightsUnreadable, match=path.name):
        load_vae(target)
    (target / INDEX).unlink()
    with pytest.raises(WeightsNotFound, match=INDEX):
        load_vae(target)


def test_a_vae_may_be_a_safetensors_file(vae_source, tmp_path):
    tensors = open_published_vae(vae_source)
    save_file(tensors, tmp_path / "pytorch_model.safetensors")
    assert same(dict(sorted(open_published_vae(tmp_path).items())), dict(sorted(tensors.items())))


def test_a_vae_with_a_name_too_few_is_refused(vae_source, tmp_path):
    tensors = open_published_vae(vae_source)
    del tensors["quant_conv.bias"]
    torch.save(tensors, tmp_path / "pytorch_model.pt")
    with pytest.raises(WeightsMismatch, match=r"vae: 1 names missing \(quant_conv\.bias\)"):
        convert_vae_file(tmp_path, tmp_path / "target", norm_num_groups=4)


def test_adapters_may_stand_in_other_blocks() -> None:
    config = {**TINY, "num_layers": 4, "audio_adapter_layers": [0, 2, 3]}
    published = published_tensors(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in published.items()}
    assert {name.split(".")[1] for name in shapes if name.startswith("audio_adapter_blocks.")} == {"0", "1", "2"}
    sizes = transformer_config_of(shapes, rope_axes_dim=TINY["rope_axes_dim"], audio_adapter_layers=[0, 2, 3])
    model = transformer_of(published, sizes)
    assert [hasattr(block, "audio_adapter") for block in model.transformer_blocks] == [True, False, True, True]
    assert torch.equal(
        model.transformer_blocks[2].audio_adapter.to_q.weight, published["audio_adapter_blocks.1.to_q.weight"].float()
    )


# --- encoders ---------------------------------------------------------------------------------------------------------

ENCODERS: dict[str, Callable[[], PreTrainedModel]] = {
    "text_encoder": lambda: make_llava(llama_tokenizer()),
    "text_encoder_2": lambda: make_clip(clip_tokenizer()),
    "audio_encoder": make_whisper,
}


@pytest.fixture(params=ENCODERS)
def encoder(request, tmp_path) -> tuple[str, PreTrainedModel, Path]:
    """Name, model, and the folder it was saved to."""
    model = ENCODERS[request.param]()
    model.save_pretrained(tmp_path / "encoder")
    return request.param, model, tmp_path / "encoder"


def loaded(encoder: tuple[str, PreTrainedModel, Path], dtype: torch.dtype = torch.float32) -> Any:
    name, model, folder = encoder
    return load_encoder(type(model), folder, name, dtype=dtype)


def edit(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_a_whole_encoder_loads_equal(encoder):
    found, wanted = loaded(encoder), encoder[1]
    assert same(found.state_dict(), wanted.state_dict()) and not found.training
    assert loaded(encoder, torch.bfloat16).dtype == torch.bfloat16


def test_an_encoder_in_a_file_of_pytorch_loads_equal(encoder):
    folder = encoder[2]
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert same(loaded(encoder).state_dict(), encoder[1].state_dict())
    os.truncate(folder / "pytorch_model.bin", (folder / "pytorch_model.bin").stat().st_size // 2)
    with pytest.raises(WeightsUnreadable, match=r"pytorch_model\.bin .* whole file is needed"):
        loaded(encoder)


def test_an_encoder_that_lost_a_tensor_is_refused(encoder):
    lost: list[str] = []

    def lose(tensors: Tensors) -> None:
        lost.append(next(name for name in tensors if name.endswith("self_attn.q_proj.weight")))
        del tensors[lost[0]]

    edit(encoder[2], lose)
    with pytest.raises(WeightsMismatch, match=rf"{encoder[0]}: 1 names missing \(.*q_proj\.weight\).* folder of"):
        loaded(encoder)


def test_an_encoder_with_a_tensor_of_another_shape_is_refused(encoder):
    def cut(tensors: Tensors) -> None:
        name = next(name for name in tensors if name.endswith("self_attn.q_proj.weight"))
        tensors[name] = tensors[name][:3].clone()

    edit(encoder[2], cut)
    with pytest.raises(WeightsMismatch, match=rf"{encoder[0]}: 0 names .*1 of another shape .*q_proj\.weight \[3, "):
        loaded(encoder)


@pytest.mark.parametrize("length", [0, 100, 5000])
def test_an_encoders_file_cut_short_is_refused(encoder, length):
    os.truncate(encoder[2] / "model.safetensors", length)
    with pytest.raises(WeightsUnreadable, match=rf"model\.safetensors \({length} bytes\)"):
        loaded(encoder)


def test_an_encoder_without_files_or_config_is_refused(encoder):
    folder = encoder[2]
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsNotFound, match=r"model\.safetensors; found: config\.json"):
        loaded(encoder)
    (folder / "config.json").write_text("{", "utf-8")
    with pytest.raises(WeightsUnreadable, match=r"config\.json \(1 bytes\)"):
        loaded(encoder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(WeightsNotFound, match=r"config\.json; found: -"):  # not the class's default, gigabytes large
        loaded(encoder)
    with pytest.raises(WeightsNotFound, match=r"config\.json"):
        load_encoder(type(encoder[1]), folder / "absent", encoder[0], dtype=torch.float32)


def test_an_encoder_without_one_of_its_shards_is_refused(encoder):
    _, model, folder = encoder
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    lost = sorted(folder.glob("*.safetensors"))[1]
    assert same(loaded(encoder).state_dict(), model.state_dict())
    lost.unlink()
    with pytest.raises(WeightsNotFound, match=lost.name):
        loaded(encoder)


def test_names_that_an_encoder_has_no_place_for_are_passed_over(encoder):
    edit(encoder[2], lambda tensors: tensors.update({"proj_out.weight": torch.zeros(2)}))
    assert same(loaded(encoder).state_dict(), encoder[1].state_dict())


def test_clips_text_model_is_found_in_the_whole_of_clip_and_whisper_in_the_speech_recogniser(tmp_path):
    text_model = make_clip(clip_tokenizer())
    text, vision = text_model.config.to_dict(), {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config={**vision, "intermediate_size": 16}))
    whole.save_pretrained(tmp_path / "clip")
    found = load_encoder(CLIPTextModel, tmp_path / "clip", "text_encoder_2", dtype=torch.float32)
    wanted = {f"text_model.{name}": tensor for name, tensor in found.state_dict().items()}
    assert same(wanted, {name: whole.state_dict()[name] for name in wanted})

    recogniser = WhisperForConditionalGeneration(make_whisper().config)
    recogniser.save_pretrained(tmp_path / "whisper")
    held = load_file(tmp_path / "whisper" / "model.safetensors")
    assert "proj_out.weight" not in held  # tied to the words
    for model_class in (WhisperModel, WhisperForConditionalGeneration):
        model = load_encoder(model_class, tmp_path / "whisper", "audio_encoder", dtype=torch.float32)
        encoder = recogniser.get_encoder()
        assert same(model.get_encoder().state_dict(), encoder.state_dict())
