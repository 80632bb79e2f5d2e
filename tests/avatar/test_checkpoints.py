"""A run saved step by step: little is written, the newest whole state counts, damage is told by name."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.avatar.checkpoints import Checkpoints
from pipeline.avatar.sampler import DenoisingRun
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from pipeline.errors import DiskFull, RunDamaged
from tests.avatar.builds import make_transformer
from tests.avatar.test_sampler import NUM_STEPS, go_on, make_run
from tests.conftest import SMALL_DISK


@pytest.fixture(scope="module")
def model() -> HunyuanVideoAvatarTransformer3DModel:
    return make_transformer()


@pytest.fixture(scope="module")
def whole(model: HunyuanVideoAvatarTransformer3DModel) -> torch.Tensor:
    """The latents of a run that nothing disturbed."""
    return go_on(make_run(), model=model).latents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def loaded(folder: Path) -> DenoisingRun:
    run = Checkpoints(folder).load()
    assert run is not None
    return run


def saved(folder: Path, model: HunyuanVideoAvatarTransformer3DModel, steps: int) -> DenoisingRun:
    """A run after so many steps, saved after each of them."""
    checkpoints, run = Checkpoints(folder), make_run()
    checkpoints.save(run)
    for _ in range(steps):
        checkpoints.save(go_on(run, 1, model))
    return run


def test_a_run_loaded_anew_for_every_step_ends_bit_for_bit_alike(
    folder: Path, model: HunyuanVideoAvatarTransformer3DModel, whole: torch.Tensor
) -> None:
    Checkpoints(folder).save(make_run())
    for step in range(NUM_STEPS):
        checkpoints = Checkpoints(folder)
        run = checkpoints.load()
        assert run is not None and run.step == step
        checkpoints.save(go_on(run, 1, model))
    assert torch.equal(loaded(folder).latents, whole)


def test_a_step_writes_its_latents_alone_unless_the_caches_changed(
    folder: Path, model: HunyuanVideoAvatarTransformer3DModel
) -> None:
    checkpoints, run = Checkpoints(folder), make_run()
    checkpoints.save(run)
    written = []
    for _ in range(NUM_STEPS):
        before = set(folder.iterdir())
        checkpoints.save(go_on(run, 1, model))
        new = {path.name.rpartition("-")[0] for path in set(folder.iterdir()) - before}
        assert new <= {"state", "latents", "negative_cache", "positive_cache"} and {"state", "latents"} < new | {""}
        written.append("negative_cache" in new)
        assert written[-1] == ("positive_cache" in new)
    # full and followed by a step that is not: 7 steps in full, then every other one to the sixteenth
    assert [step for step, large in enumerate(written) if large] == [6, 8, 10, 12, 14]


def test_no_more_than_two_states_are_kept(folder: Path, model: HunyuanVideoAvatarTransformer3DModel) -> None:
    saved(folder, model, 9)
    names = sorted(path.name.rpartition("-")[0] for path in folder.iterdir())
    assert names.count("state") == names.count("latents") == 2 and names.count("conditions") == 1
    assert names.count("positive_cache") == 2 and len(names) == 9


def test_nothing_saved_is_nothing_to_load(folder: Path) -> None:
    assert Checkpoints(folder).load() is None
    folder.mkdir()
    (folder / "latents-000001.safetensors.1f.part").write_bytes(b"half")
    assert Checkpoints(folder).load() is None


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size - 9),
    "empty": lambda path: os.truncate(path, 0),
    "garbage": lambda path: path.write_bytes(b"\x00garbage" * 99),
    "one bit": spoil,
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("part", ["state", "latents"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_state_falls_back_to_the_one_before(
    folder: Path,
    model: HunyuanVideoAvatarTransformer3DModel,
    whole: torch.Tensor,
    part: str,
    damage: Callable[[Path], object],
) -> None:
    saved(folder, model, 8)
    damage(max(folder.glob(f"{part}-*")))
    checkpoints = Checkpoints(folder)
    run = checkpoints.load()
    assert run is not None and run.step == 7
    while not run.is_done:
        checkpoints.save(go_on(run, 1, model))
    assert torch.equal(run.latents, whole) and torch.equal(loaded(folder).latents, whole)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_that_spares_no_state_is_told_by_name(
    folder: Path, model: HunyuanVideoAvatarTransformer3DModel, damage: Callable[[Path], object]
) -> None:
    saved(folder, model, 2)
    damage(next(folder.glob("conditions-*")))
    with pytest.raises(RunDamaged, match=r"None of the 2 .* state-000003\.json"):
        Checkpoints(folder).load()
    Checkpoints(folder).clear()
    assert Checkpoints(folder).load() is None and list(folder.iterdir()) == []


def test_another_run_in_the_folder_takes_the_place_of_the_one_before(
    folder: Path, model: HunyuanVideoAvatarTransformer3DModel
) -> None:
    """As when a clip is begun again: less far on, and with conditions of its own."""
    saved(folder, model, 3)
    checkpoints = Checkpoints(folder)
    checkpoints.load()
    for other in (make_run(guidance_scale=2), make_run(guidance_scale=3)):
        checkpoints.save(other)
        assert loaded(folder).step == 0 and loaded(folder).settings == other.settings


def test_two_equal_prompts_are_saved(folder: Path, model: HunyuanVideoAvatarTransformer3DModel) -> None:
    """Without guidance the negative prompt is the prompt itself, in the same memory."""
    run = make_run(guidance_scale=1)
    object.__setattr__(run.conditions, "negative_prompt", run.conditions.prompt)
    Checkpoints(folder).save(go_on(run, 1, model))
    again = loaded(folder).conditions
    assert torch.equal(again.negative_prompt.prompt_embeds, again.prompt.prompt_embeds)


def test_a_full_disk_leaves_the_last_state(small_disk: Path, model: HunyuanVideoAvatarTransformer3DModel) -> None:
    folder = small_disk / "run"
    saved(folder, model, 6)
    room = small_disk / "room"
    checkpoints = Checkpoints(folder)
    run = checkpoints.load()
    assert run is not None
    go_on(run, 1, model)
    before = {path.name for path in folder.iterdir()}
    refused = 0
    for left in range(0, SMALL_DISK, 4_096):  # a page more each time, until there is room for latents, caches and state
        statistics = os.statvfs(small_disk)
        room.write_bytes(bytes(statistics.f_bavail * statistics.f_frsize - left))
        try:
            checkpoints.save(run)
            break
        except DiskFull as error:
            refused += 1
            assert str(error).startswith("The disk is full: 0 MiB are left")
        room.unlink()
        assert {path.name for path in folder.iterdir()} == before and loaded(folder).step == 6
    assert refused > 10 and loaded(folder).step == 7


def test_what_guides_after_the_last_negative_branch_is_kept_with_the_run(
    folder: Path, model: HunyuanVideoAvatarTransformer3DModel
) -> None:
    checkpoints, run = Checkpoints(folder), make_run()
    run.settings = replace(run.settings, negative_until=0.2)
    for _ in range(6):  # the fourth step is the last with both branches
        checkpoints.save(go_on(run, 1, model))
    again = Checkpoints(folder).load()
    assert again is not None and again.difference is not None and run.difference is not None
    assert torch.equal(again.difference, run.difference)
