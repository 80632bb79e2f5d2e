"""Our numbers beside those recorded from the published code; goldens/README.md says how they were made."""

import importlib
import pkgutil
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.avatar import checks
from tests.avatar.parity import main

GOLDENS = Path(__file__).with_name("goldens")
PARTS = sorted(module.name for module in pkgutil.iter_modules(checks.__path__))
MOST_BYTES = 12_000_000  # of test data, so that a clone stays small


@pytest.mark.parametrize("part", PARTS)
def test_our_numbers_are_the_published_ones(part: str) -> None:
    torch.set_num_threads(1)
    found = list(importlib.import_module(f"{checks.__name__}.{part}").differences(GOLDENS))
    assert found, f"no golden of {part} was found"
    apart = [difference for difference in found if not difference.found <= difference.tolerance]
    assert not apart


def test_a_wrong_number_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("transformer_tiny.safetensors", "transformer_tiny.json"):
        shutil.copyfile(GOLDENS / name, tmp_path / name)
    assert main(tmp_path) == 0
    tensors = load_file(tmp_path / "transformer_tiny.safetensors")
    tensors["sd.single_blocks.2.linear2.weight"] *= 1.0005
    save_file(tensors, tmp_path / "transformer_tiny.safetensors")
    assert main(tmp_path) == 1
    assert "FAIL" in capsys.readouterr().out


def test_a_folder_without_goldens_is_no_success(tmp_path: Path) -> None:
    assert main(tmp_path) == 1


def test_the_goldens_are_small_and_say_where_they_come_from() -> None:
    assert sum(path.stat().st_size for path in GOLDENS.iterdir()) <= MOST_BYTES
    told = (GOLDENS / "README.md").read_text(encoding="utf-8")
    for path in GOLDENS.glob("*.safetensors"):
        assert path.stem in told, path.name
    assert "fd59436af88e747c7e48055fd65df8233c4ff2eb" in told
