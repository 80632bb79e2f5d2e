"""Prompt and portrait to embeddings: equal to the published ones, whatever the prompt's length, and kept once made."""

import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from diffusers.hooks import apply_group_offloading
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from PIL import Image
from safetensors.torch import load_file

from pipeline.avatar import text, tiny
from pipeline.avatar.text import PromptEmbeds, encode_prompt, tokenize_prompt
from pipeline.errors import WordTaken

GOLDENS = Path(__file__).parent / "goldens"
PROMPT = "Authentic, Realistic, Natural, High-quality, Lens-Fixed, A woman speaks to the camera."
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    """Both encoders, tiny, and their tokenizers."""
    tokenizer, tokenizer_2 = tiny.llama_tokenizer(), tiny.clip_tokenizer()
    return {
        "text_encoder": tiny.make_llava(tokenizer),
        "tokenizer": tokenizer,
        "text_encoder_2": tiny.make_clip(tokenizer_2),
        "tokenizer_2": tokenizer_2,
    }


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """(80, 64, 3) uint8, noise."""
    return np.random.default_rng(0).integers(0, 256, (80, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def embeds(parts, image) -> PromptEmbeds:
    """What the prompt gives."""
    return encode_prompt(PROMPT, image, **parts)


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """One entry, the tokens' number, for each time LLaVA is run from here on."""
    runs: list[int] = []
    llava_rows = text.llava_rows

    def counted(input_ids: torch.Tensor, *others: Any) -> torch.Tensor:
        runs.append(input_ids.shape[1])
        return llava_rows(input_ids, *others)

    monkeypatch.setattr(text, "llava_rows", counted)
    return runs


def same(one: PromptEmbeds, other: PromptEmbeds) -> bool:
    """Whether two results are the same, bit for bit."""
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("prompt_embeds", "prompt_attention_mask", "pooled_prompt_embeds")
    )


# --- equal to the published code --------------------------------------------------------------------------------------


def test_published_rows_of_no_token_are_all_alike() -> None:
    goldens = load_file(GOLDENS / "text_tiny.safetensors")
    for branch in ("cond", "uncond"):
        num_rows = int(goldens[f"{branch}.out.prompt_mask"].sum())
        padding = goldens[f"{branch}.out.prompt_embeds"][0, num_rows:]
        assert len(padding) > 200
        assert (padding - padding[:1]).abs().max() < 2e-6


def test_embeddings_have_the_published_shapes(embeds) -> None:
    assert embeds.prompt_embeds.shape == (1, 831, 32)
    assert embeds.prompt_attention_mask.shape == (1, 831)
    assert embeds.prompt_attention_mask.dtype == torch.int64
    assert embeds.pooled_prompt_embeds.shape == (1, 24)
    assert (embeds.dropped, embeds.dropped_2) == ("", "")


def test_rows_are_the_whole_models_third_last_states(parts, image, embeds) -> None:
    """Of all 926 rows, with as many image tokens as current transformers wants."""
    model, tokens = parts["text_encoder"], tokenize_prompt(PROMPT, **parts)
    pixel_values = text.llava_pixel_values(image, 336)
    inputs_embeds, _, _ = text.llava_inputs(tokens.input_ids, pixel_values, model, CPU)
    num_rows = inputs_embeds.shape[1] - 1
    padded = torch.nn.functional.pad(inputs_embeds[:, :num_rows], (0, 0, 0, 926 - num_rows))
    mask = (torch.arange(926) < num_rows).long()[None]
    positions = torch.where(mask == 1, torch.arange(926), 1)
    with torch.no_grad():
        whole = model(
            inputs_embeds=padded, attention_mask=mask, position_ids=positions, output_hidden_states=True
        ).hidden_states[-3]
    assert (embeds.prompt_embeds - whole[:, 95:]).abs().max() < 2e-5


# --- the model --------------------------------------------------------------------------------------------------------


def test_the_model_stays_whole(parts, image) -> None:
    model = parts["text_encoder"]
    language_model = model.model.language_model
    names, layers, norm = list(model.state_dict()), len(language_model.layers), language_model.norm
    encode_prompt(PROMPT, image, **parts)
    assert list(model.state_dict()) == names
    assert len(language_model.layers) == layers == 4
    assert language_model.norm is norm


def test_the_last_layers_and_the_head_are_not_run(parts, image) -> None:
    model, run = parts["text_encoder"], []
    watched = {"head": model.lm_head, "norm": model.model.language_model.norm}
    watched |= {f"layer {number}": layer for number, layer in enumerate(model.model.language_model.layers)}
    hooks = [module.register_forward_hook(lambda *_, name=name: run.append(name)) for name, module in watched.items()]
    encode_prompt(PROMPT, image, **parts)
    for hook in hooks:
        hook.remove()
    assert run == ["layer 0", "layer 1"]


def test_two_visitors_at_once_do_not_meet(parts, image, embeds) -> None:
    found: list[PromptEmbeds] = []

    def visit() -> None:
        found.extend(encode_prompt(PROMPT, image, **parts) for _ in range(3))

    visitors = [threading.Thread(target=visit) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert len(found) == 12
    assert all(same(one, embeds) for one in found)
    assert len(parts["text_encoder"].model.language_model.layers) == 4


@pytest.mark.parametrize("way", ["model", "sequential", "leaf", "leaf on disk", "block", "block on disk"])
def test_an_offloaded_encoder_reads_the_same(parts, image, embeds, way, tmp_path) -> None:
    models = {
        "text_encoder": tiny.make_llava(parts["tokenizer"]),
        "text_encoder_2": tiny.make_clip(parts["tokenizer_2"]),
    }
    for name, model in models.items():
        if way == "model":
            accelerate.cpu_offload_with_hook(model, execution_device=CPU)
        elif way == "sequential":
            accelerate.cpu_offload(model, execution_device=CPU)
        else:
            apply_group_offloading(
                model,
                onload_device=CPU,
                offload_device=CPU,
                offload_type=f"{way.split()[0]}_level",
                num_blocks_per_group=1 if way.startswith("block") else None,
                offload_to_disk_path=str(tmp_path / name) if way.endswith("disk") else None,
            )
    found = encode_prompt(PROMPT, image, **{**parts, **models}, cache_dir=tmp_path)
    assert same(found, embeds)
    assert same(encode_prompt(PROMPT, image, **{**parts, **models}, cache_dir=tmp_path), embeds)


def test_half_precision_stays_half(parts, image, embeds, tmp_path) -> None:
    models = {
        "text_encoder": tiny.make_llava(parts["tokenizer"]).bfloat16(),
        "text_encoder_2": tiny.make_clip(parts["tokenizer_2"]).bfloat16(),
    }
    first = encode_prompt(PROMPT, image, **{**parts, **models}, cache_dir=tmp_path)
    kept = encode_prompt(PROMPT, image, **{**parts, **models}, cache_dir=tmp_path)
    assert first.prompt_embeds.dtype == kept.prompt_embeds.dtype == torch.bfloat16
    assert same(first, kept)
    assert (first.prompt_embeds.float() - embeds.prompt_embeds).abs().max() < 0.1


# --- words ------------------------------------------------------------------------------------------------------------


def test_a_prompt_is_read_between_template_and_portrait(parts) -> None:
    tokens = tokenize_prompt(PROMPT, **parts)
    written = parts["tokenizer"](DEFAULT_PROMPT_TEMPLATE["template"].format(PROMPT) + text.SUFFIX).input_ids
    assert tokens.input_ids.tolist() == [written]
    assert written[-1] == parts["text_encoder"].config.image_token_id
    assert tokens.clip_input_ids.shape == tokens.clip_attention_mask.shape == (1, 77)


@pytest.mark.parametrize("braces", ["{", "}", "{}", "{0}", "a {name} b"])
def test_braces_are_words_like_any_other(parts, braces) -> None:
    read = parts["tokenizer"].decode(tokenize_prompt(braces, **parts).input_ids[0])
    assert braces.split()[-1].replace("{name}", "name") in read.replace(" ", "")


@pytest.mark.parametrize(
    "prompt",
    [
        "An old man laughs, then speaks slowly of the sea. " * 40,
        "Одна женщина говорит тихо. " * 100,
        "女人对着镜头说话" * 200,
        "x" * 100_000,
        "word " * 20_000,
    ],
    ids=["english", "russian", "chinese", "one word", "long"],
)
def test_too_long_a_prompt_loses_its_end_and_nothing_else(parts, image, prompt) -> None:
    tokens = tokenize_prompt(prompt, **parts)
    ids = tokens.input_ids[0].tolist()
    assert 351 - text.LONGEST_WORD < len(ids) <= 351
    kept = prompt.rstrip().removesuffix(tokens.dropped)
    assert len(kept) == len(prompt.rstrip()) - len(tokens.dropped) < len(prompt.rstrip())
    assert kept.endswith(" ") == (" " in prompt)  # whole words, where there are any
    template = DEFAULT_PROMPT_TEMPLATE["template"].format(kept.rstrip()) + text.SUFFIX
    assert parts["tokenizer"](template).input_ids == ids
    assert ids.count(parts["text_encoder"].config.image_token_id) == 1
    assert tokens.dropped_2.endswith(tokens.dropped)


def test_a_prompt_of_exactly_the_limit_is_read_whole(parts, image) -> None:
    least = len(tokenize_prompt("", **parts).input_ids[0])
    fitting = "x" * (351 - least)
    tokens = tokenize_prompt(fitting, **parts)
    assert (tokens.input_ids.shape[1], tokens.dropped) == (351, "")
    assert tokenize_prompt(fitting + "y", **parts).dropped == "y"
    embeds = encode_prompt(fitting, image, **parts)
    assert embeds.prompt_embeds.shape == (1, 831, 32)
    assert int(embeds.prompt_attention_mask.sum()) == 831
    shorter = encode_prompt(fitting[:-1], image, **parts)
    assert int(shorter.prompt_attention_mask.sum()) == 830


def test_the_end_that_clip_does_not_read_is_told(parts) -> None:
    prompt = "speaks " * 60
    tokens = tokenize_prompt(prompt, **parts)
    assert tokens.dropped == ""
    assert tokens.dropped_2 == ("speaks " * (len(tokens.dropped_2) // 7 + 1)).strip()
    assert tokens.clip_attention_mask.sum() == 77
    assert tokens.clip_input_ids[0, -1] == parts["tokenizer_2"].eos_token_id


@pytest.mark.parametrize("word", ["<image>", "<|eot_id|>", "<pad>", "<|endoftext|>"])
def test_a_word_of_the_tokenizers_own_is_refused(parts, word) -> None:
    with pytest.raises(WordTaken) as error:
        tokenize_prompt(f"A man{word} speaks", **parts)
    assert error.value.values["word"] == word


def test_a_tokenizer_of_another_model_is_refused(parts) -> None:
    other = tiny.llama_tokenizer()
    other.pad_token = "<|eot_id|>"
    with pytest.raises(ValueError, match=f"pads with {other.pad_token_id}, the text encoder's config says 0"):
        tokenize_prompt(PROMPT, **{**parts, "tokenizer": other})
    with pytest.raises(ValueError, match="exactly 1 are needed"):
        tokenizer = tiny.clip_tokenizer()
        tokenizer.pad_token = "<|startoftext|>"  # number 0, as in the config
        tokenize_prompt(PROMPT, **{**parts, "tokenizer": tokenizer})


# --- the portrait -----------------------------------------------------------------------------------------------------


def test_a_pil_picture_is_read_like_its_pixels(parts, image, embeds) -> None:
    assert same(encode_prompt(PROMPT, Image.fromarray(image), **parts), embeds)


def test_another_portrait_changes_its_rows_alone(parts, image, embeds) -> None:
    other = encode_prompt(PROMPT, 255 - image, **parts)
    place = tokenize_prompt(PROMPT, **parts).input_ids.shape[1] - 1 - 95  # the image token is the last
    assert torch.equal(other.prompt_embeds[:, :place], embeds.prompt_embeds[:, :place])
    assert (other.prompt_embeds[:, place:] != embeds.prompt_embeds[:, place:]).any()
    assert torch.equal(other.pooled_prompt_embeds, embeds.pooled_prompt_embeds)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (Image.new("RGBA", (64, 64)), "mode RGBA; mode RGB is needed"),
        (Image.new("L", (64, 64)), "mode L; mode RGB is needed"),
        (Image.new("P", (64, 64)), "mode P; mode RGB is needed"),
        (np.zeros((64, 64, 4), np.uint8), r"\(64, 64, 4\) uint8; \(rows, columns, 3\)"),
        (np.zeros((64, 64), np.uint8), r"\(64, 64\) uint8; \(rows, columns, 3\)"),
        (np.zeros((64, 64, 3), np.float32), r"\(64, 64, 3\) float32; \(rows, columns, 3\)"),
        (np.zeros((0, 64, 3), np.uint8), r"\(0, 64, 3\) uint8; \(rows, columns, 3\)"),
    ],
)
def test_another_kind_of_picture_is_refused(parts, picture, words) -> None:
    with pytest.raises(ValueError, match=words):
        encode_prompt(PROMPT, picture, **parts)


# --- the cache --------------------------------------------------------------------------------------------------------


def test_a_kept_result_is_the_same_bit_for_bit_and_runs_no_model(parts, image, embeds, encoded, tmp_path) -> None:
    first = encode_prompt(PROMPT, image, **parts, cache_dir=tmp_path / "new" / "folder")
    again = encode_prompt(PROMPT, image, **parts, cache_dir=tmp_path / "new" / "folder")
    assert same(first, embeds)
    assert same(again, embeds)
    assert len(encoded) == 1


def test_nothing_is_kept_without_a_folder(parts, image, encoded, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        encode_prompt(PROMPT, image, **parts)
    assert len(encoded) == 2
    assert not list(tmp_path.iterdir())


def test_a_kept_result_holds_no_row_twice(parts, image, tmp_path) -> None:
    encode_prompt(PROMPT, image, **parts, cache_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    num_tokens = tokenize_prompt(PROMPT, **parts).input_ids.shape[1]
    assert load_file(path)["rows"].shape == (1, num_tokens - 1 + 576 - 95 + 1, 32)


def test_what_the_result_follows_from_has_its_own_entry(parts, image, encoded, tmp_path) -> None:
    other_llava = tiny.make_llava(parts["tokenizer"], seed=1)
    other_clip = tiny.make_clip(parts["tokenizer_2"], seed=1)
    tuned = tiny.make_llava(parts["tokenizer"])
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(1e-4)
    cases: list[tuple[str, np.ndarray, dict[str, Any]]] = [
        (PROMPT, image, {}),
        (PROMPT + " ", image, {}),
        (PROMPT, np.ascontiguousarray(image[:, ::-1]), {}),
        (PROMPT, image.reshape(64, 80, 3), {}),
        (PROMPT, image, {"text_encoder": other_llava}),
        (PROMPT, image, {"text_encoder": tuned}),
        (PROMPT, image, {"text_encoder": tiny.make_llava(parts["tokenizer"]).half()}),
        (PROMPT, image, {"text_encoder_2": other_clip}),
        (PROMPT, image, {"text_encoder": tiny.make_llava(parts["tokenizer"], layers=5)}),
    ]
    for number, (prompt, picture, changes) in enumerate(cases, 1):
        encode_prompt(prompt, picture, **{**parts, **changes}, cache_dir=tmp_path)
        assert len(encoded) == number


def test_the_same_model_loaded_from_elsewhere_finds_the_entry(parts, image, encoded, tmp_path) -> None:
    encode_prompt(PROMPT, image, **parts, cache_dir=tmp_path / "cache")
    parts["text_encoder"].save_pretrained(tmp_path / "model")
    loaded = type(parts["text_encoder"]).from_pretrained(tmp_path / "model").eval()
    encode_prompt(PROMPT, image, **{**parts, "text_encoder": loaded}, cache_dir=tmp_path / "cache")
    assert len(encoded) == 1


def damages(whole: bytes) -> dict[str, bytes]:
    """The content of a file after some accidents."""
    middle = len(whole) // 2
    return {
        "empty": b"",
        "cut": whole[:middle],
        "short by a byte": whole[:-1],
        "one bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "header": b"\xff" * 8 + whole[8:],
        "another file": b"not tensors at all" * 100,
    }


@pytest.mark.parametrize("damage", damages(b"  "))
def test_a_damaged_entry_is_made_anew(parts, image, embeds, encoded, tmp_path, damage) -> None:
    encode_prompt(PROMPT, image, **parts, cache_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damages(whole)[damage])
    assert same(encode_prompt(PROMPT, image, **parts, cache_dir=tmp_path), embeds)
    assert len(encoded) == 2
    assert path.read_bytes() == whole


def test_a_folder_that_takes_no_file_costs_the_cache_alone(parts, image, embeds, tmp_path, caplog) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    assert same(encode_prompt(PROMPT, image, **parts, cache_dir=tmp_path / "taken"), embeds)
    assert "were not kept" in caplog.text


def test_an_interrupted_write_leaves_no_entry(tmp_path, monkeypatch) -> None:
    def interrupted(_: object, path: Path, __: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(text, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        text._write(tmp_path / "entry.safetensors", {"rows": torch.zeros(1, 2, 3)})
    assert not list(tmp_path.iterdir())


def test_the_newest_entries_stay_and_abandoned_ones_go(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(text, "CACHE_ENTRIES", 3)
    kept = {"rows": torch.zeros(1, 2, 3), "pooled_prompt_embeds": torch.zeros(1, 4)}
    lost, fresh = tmp_path / ".lost.00.part", tmp_path / ".fresh.00.part"
    for path in (lost, fresh):
        path.write_bytes(b"half")
    os.utime(lost, (0, 0))
    now = time.time()
    for number in range(5):
        path = tmp_path / f"{number}.safetensors"
        text._write(path, kept)
        os.utime(path, (now + number - 10, now + number - 10))
        if number == 3:
            assert text._read(tmp_path / "1.safetensors") is not None  # used: the last to go
    assert {path.name for path in tmp_path.iterdir()} == {
        "1.safetensors",
        "3.safetensors",
        "4.safetensors",
        fresh.name,
    }


def _write_and_read(path: Path, kept: dict[str, torch.Tensor]) -> None:
    """What a process does in the next test; its exit status says whether all went well."""
    for _ in range(30):
        text._write(path, kept)
        found = text._read(path)
        if found is None or not torch.equal(found["rows"], kept["rows"]):
            os._exit(1)
    os._exit(0)


def test_processes_with_the_same_entry_do_not_clash(tmp_path) -> None:
    kept = {"rows": torch.randn(1, 600, 32), "pooled_prompt_embeds": torch.randn(1, 24)}
    forks = multiprocessing.get_context("fork")
    processes = [forks.Process(target=_write_and_read, args=(tmp_path / "one.safetensors", kept)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["one.safetensors"]
