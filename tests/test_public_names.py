"""What `import pipeline` gives is what it promises, and importing it does nothing else."""

import subprocess
import sys
from pathlib import Path

import pipeline
from pipeline import errors, render, request

PROJECT = Path(__file__).parents[1]


def test_the_promised_names_are_there():
    assert pipeline.__all__ == sorted(pipeline.__all__)
    assert {name: getattr(pipeline, name) for name in pipeline.__all__} == {
        "AvatarError": errors.AvatarError,
        "RenderRequest": request.RenderRequest,
        "RenderResult": request.RenderResult,
        "render": render,
        "render_steps": pipeline.render_steps,
        "resume": pipeline.resume,
        "resume_steps": pipeline.resume_steps,
    }


def test_every_public_name_explains_itself():
    assert all(getattr(pipeline, name).__doc__ for name in pipeline.__all__)


def test_importing_every_module_writes_and_starts_nothing(tmp_path):
    program = """
import importlib, pathlib, pkgutil, sys, threading
import pipeline
names = [module.name for module in pkgutil.walk_packages(pipeline.__path__, "pipeline.")]
avatar = [name for name in names if name.startswith("pipeline.avatar.")]
for name in names:
    if not name.endswith("__main__") and name not in avatar:
        importlib.import_module(name)
heavy = {"torch", "librosa", "gradio", "spaces", "hama", "ai_edge_litert", "onnxruntime"} & set(sys.modules)
assert not heavy, heavy
for name in avatar:
    importlib.import_module(name)
assert threading.active_count() == 1, threading.enumerate()
"""
    outcome = subprocess.run(
        [sys.executable, "-B", "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT), "HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
