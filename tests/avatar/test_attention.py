"""The attention kernel: the fastest right one is used, and what was measured is remembered as long as it holds."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.avatar import attention
from pipeline.avatar.attention import Trial, best_of, candidates, choose, measure, use
from pipeline.texts import LANGUAGES
from tests.avatar.builds import make_inputs, make_transformer

CPU = torch.device("cpu")
SMALL = {"heads": 2, "head_dim": 16, "num_tokens": 40}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whatis_installed_computes_rightly_on_the_processor(dtype: torch.dtype) -> None:
    trials = measure(CPU, dtype=dtype, **SMALL)
    assert list(trials) == ["native", "_native_flash", "_native_math"]
    for trial in trials.values():
        assert trial.is_right(attention.TOLERANCE) and trial.seconds and not trial.cause


def test_packages_that_are_missing_are_not_tried() -> None:
    assert not attention.is_installed("sage"), "the test needs a machine without it"
    assert "sage" not in candidates(CPU)


def test_a_kernel_that_fails_or_computes_wrongly_is_told_and_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = attention.dispatch_attention_fn

    def dispatch(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, backend: str) -> torch.Tensor:
        result = right(query, key, value, backend=backend)
        if backend == "_native_flash":
            raise MemoryError("too long")
        return result * float("nan") if backend == "_native_math" else result

    monkeypatch.setattr(attention, "dispatch_attention_fn", dispatch)
    trials = measure(CPU, **SMALL)
    assert trials["_native_flash"] == Trial(None, None, "MemoryError: too long")
    assert trials["_native_math"].error == float("inf")
    assert best_of(trials).backend == "native"


MEASURED = {
    "native": Trial(1.0, 0.002),
    "_native_cudnn": Trial(0.8, 0.002),
    "flash": Trial(0.7, 0.002),
    "_native_flash": Trial(0.4, 0.3),
    "_native_efficient": Trial(0.6, 0.002),
    "xformers": Trial(None, None, "RuntimeError: no kernel"),
    "sage": Trial(0.5, 0.05),
}


@pytest.mark.parametrize(
    ("without", "options", "chosen"),
    [
        ((), {}, "_native_efficient"),
        ((), {"shared": True}, "flash"),
        ((), {"lossy": True}, "sage"),
        (("_native_efficient", "flash"), {}, "_native_cudnn"),
        (("_native_efficient", "flash", "_native_cudnn"), {}, "native"),
    ],
)
def test_the_fastest_that_is_right_and_may_be_used_is_chosen(
    without: tuple[str, ...], options: dict[str, bool], chosen: str
) -> None:
    choice = best_of({name: trial for name, trial in MEASURED.items() if name not in without}, **options)
    assert choice.backend == chosen
    for language in LANGUAGES:
        assert attention.NAMES[chosen] in choice.reason.text(language)


def test_a_kernel_hardly_faster_than_the_default_is_left() -> None:
    assert best_of({"native": Trial(1.0, 0.0), "flash": Trial(0.98, 0.0)}).backend == "native"


def test_a_measurement_is_remembered_until_a_package_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[dict[str, Trial]] = []

    def count(device: torch.device, **options: object) -> dict[str, Trial]:
        measured.append(measure(device, **SMALL))
        return measured[-1]

    monkeypatch.setattr(attention, "measure", count)
    first = choose(CPU, tmp_path / "new")
    assert choose(CPU, tmp_path / "new") == first and len(measured) == 1
    choose(CPU, tmp_path / "new", dtype=torch.float16)
    choose(CPU, tmp_path / "new", anew=True)
    assert len(measured) == 3
    monkeypatch.setattr(attention, "_versions", lambda: {"torch": "another"})
    choose(CPU, tmp_path / "new")
    assert len(measured) == 4


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', json.dumps({"format": 1, "versions": {}, "trials": 3})])
def test_a_damaged_memory_is_measured_anew(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "measure", lambda device, dtype: {"native": Trial(1.0, 0.0)})
    path = tmp_path / "attention-cpu-torch-bfloat16.json"
    path.write_text(content)
    assert choose(CPU, tmp_path).backend == "native"
    assert "trials" in json.loads(path.read_text())


def test_a_folder_that_cannot_be_written_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "measure", lambda device, dtype: {"native": Trial(1.0, 0.0)})
    (tmp_path / "file").write_text("")
    assert choose(CPU, tmp_path / "file").backend == "native"


def test_flash_attention_3_is_kept_from_cards_that_it_would_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "is_installed", lambda name: True)
    for capability, offered in (((9, 0), True), ((12, 0), False), ((8, 6), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, told=capability: told)
        assert ("_flash_3" in candidates(torch.device("cuda"))) == offered


def test_a_kernel_is_used_by_this_model_alone() -> None:
    model, other = make_transformer(), make_transformer()
    with torch.no_grad():
        before = model(**make_inputs()).sample
        use(model, "_native_math")
        after = model(**make_inputs()).sample
    assert model.transformer_blocks[0].attn.processor._attention_backend == "_native_math"
    assert other.transformer_blocks[0].attn.processor._attention_backend is None
    assert 0 <= float((after - before).abs().max()) < 1e-5
    with pytest.raises(RuntimeError, match="sage"):
        use(model, "sage")
    with pytest.raises(ValueError, match="nonsense"):
        use(model, "nonsense")
