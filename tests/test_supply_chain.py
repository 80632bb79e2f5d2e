"""What is installed is what was locked; what cannot be audited is not called sound; no GPL code comes in unseen."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline import jobs
from tests.supply import audit, licences

ROOT = Path(__file__).parents[1]
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"], "aliases": []}]}
UNASKED = {"name": "unasked", "skip_reason": "Dependency not found on PyPI and could not be audited: unasked (1)"}


def locked(name: str) -> dict[str, tuple[Requirement, list[str]]]:
    """The pins of a lock, by canonical name, each with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "locks" / f"{name}.txt").read_text("utf-8"), flags=re.M)
    entries = [entry for entry in text.replace("\\\n", " ").splitlines() if entry.strip()]
    pins = [(Requirement(entry.split("--hash")[0]), HASH.findall(entry)) for entry in entries]
    return {canonicalize_name(pin.name): (pin, hashes) for pin, hashes in pins}


def version_of(pin: Requirement) -> str:
    """The one version that a pin lets in."""
    (only,) = pin.specifier
    assert only.operator == "==" and "*" not in only.version, pin
    return only.version


@pytest.mark.parametrize("name", ["draft", "tools"])
def test_every_line_of_a_lock_names_one_version_and_its_hashes(name):
    assert len(locked(name)) > 40
    for pin, hashes in locked(name).values():
        assert version_of(pin) and hashes and not pin.url, pin


@pytest.mark.parametrize("name", ["draft", "tools"])
def test_no_lock_and_the_tested_versions_disagree(name):
    tested: dict[str, str] = {
        canonicalize_name(pin.name): version_of(pin) for pin in licences.requirements(ROOT / "constraints.txt")
    }
    for package, (pin, _) in locked(name).items():
        assert package not in tested or tested[package] == version_of(pin), package


def test_the_draft_s_lock_holds_all_that_the_draft_runs_with():
    needed = {package.name: package.version for package in licences.run_time(draft())}
    pins = {name: version_of(pin) for name, (pin, _) in locked("draft").items()}
    assert needed.items() <= pins.items()
    elsewhere = {name for name in pins.keys() - needed if locked("draft")[name][0].marker is None}
    assert not elsewhere, "the lock is older than requirements-draft.txt: make lock"


def draft() -> list[Requirement]:
    """What the draft asks for."""
    return licences.requirements(ROOT / "requirements-draft.txt")


def test_the_tools_lock_holds_the_tools():
    assert {one.name for one in licences.requirements(ROOT / "requirements-tools.txt")} <= locked("tools").keys()


def test_the_makefile_installs_from_locks_with_hashes_alone():
    lines = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ").splitlines()
    installing = [line for line in lines if "-r locks/" in line]
    assert len(installing) == 2 and all("--require-hashes" in line for line in installing)


def test_every_target_is_told_by_make_alone():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    head = makefile.split("\n\n")[0]
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)
    assert phony
    assert set(phony[1].split()) - {"help", "format"} <= set(re.findall(r"\bmake (\w+)", head))


# --- vulnerabilities --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ([GOOD, GOOD], audit.NONE_KNOWN, "No vulnerability is known of these 2 packages"),
        ([GOOD, BAD], audit.SOME_KNOWN, "bad 1: CVE-1, mended in 2"),
        ([GOOD, UNASKED], audit.UNTOLD, "Not audited: 1 of 2 packages"),
        ([BAD, UNASKED], audit.SOME_KNOWN, "Not audited: 1 of 2 packages"),
        ([], audit.UNTOLD, "Not audited"),
    ],
)
def test_only_packages_that_were_all_asked_about_are_called_sound(found, code, said):
    told, lines = audit.judge(found)
    assert told == code and said in "\n".join(lines)


def test_an_audit_that_breaks_off_says_so_and_fails(tmp_path):
    empty = tmp_path / "pip_audit.py"
    empty.write_text("raise SystemExit('no service')")
    command = [sys.executable, "-m", "tests.supply.audit", "constraints.txt"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == audit.UNTOLD and "Not audited" in done.stdout and "no service" in done.stdout


# --- licences ---------------------------------------------------------------------------------------------------------


def made(folder: Path, metadata: str, *files: str) -> Distribution:
    """A package as pip leaves it, of nothing but metadata and empty files."""
    info = folder / "made-1.dist-info"
    info.mkdir()
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: made\nVersion: 1\n{metadata}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    return Distribution.at(info)


@pytest.mark.parametrize(
    ("metadata", "is_gpl"),
    [
        ("License-Expression: GPL-3.0-or-later", True),
        ("License-Expression: AGPL-3.0-only", True),
        ("License-Expression: MIT AND GPL-2.0-only", True),
        ("License: GNU GPL v3", True),
        ("License: GNU General Public License", True),
        ("Classifier: License :: OSI Approved :: GNU Affero General Public License v3", True),
        ("Classifier: License :: OSI Approved :: GNU General Public License v2 or later (GPLv2+)", True),
        ("License-Expression: MIT OR GPL-2.0-only", False),
        ("License-Expression: LGPL-2.1-or-later", False),
        ("Classifier: License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)", False),
        ("License-Expression: MPL-2.0 AND (Apache-2.0 OR MIT)", False),
    ],
)
def test_the_gpl_is_told_from_its_lesser_sister_and_from_a_choice(metadata, is_gpl, tmp_path):
    package = licences.package_of(made(tmp_path, metadata))
    assert bool(licences.faults([package])) == package.is_gpl == is_gpl


@pytest.mark.parametrize(
    "file",
    ["made.libs/libx264-d6533a8d.so.165", "made/.dylibs/libx265.216.dylib", "made.libs/x264-165.dll", "libfftw3.so.3"],
)
def test_a_library_under_the_gpl_is_found_in_a_wheel(file, tmp_path):
    package = licences.package_of(made(tmp_path, "License: MIT", file, "made/libx26400.py", "made/libmp3lame.so.0"))
    assert len(package.libraries) == len(licences.faults([package])) == 1


def test_a_package_without_a_licence_stands_out(tmp_path):
    assert licences.faults([licences.package_of(made(tmp_path, "Summary: none"))])


def test_no_package_that_the_draft_runs_with_is_under_the_gpl():
    packages = licences.run_time(draft())
    assert len(packages) > 60 and not licences.faults(packages)


def test_what_is_carried_along_is_carried_still_and_told_in_the_notice():
    notice = (ROOT / "NOTICE").read_text("utf-8")
    for name, libraries in licences.CARRIED.items():
        assert licences.package_of(importlib.metadata.distribution(name)).libraries == libraries
        told = re.search(rf"^{name} {re.escape(importlib.metadata.version(name))}, .*?\n\n", notice, re.M | re.S)
        assert told and all(library in told[0] for library in libraries)


# --- the bill of materials --------------------------------------------------------------------------------------------


def test_the_bill_of_materials_names_this_version_and_what_it_asks_for():
    project = tomllib.loads((ROOT / "tests" / "supply" / "sbom.toml").read_text("utf-8"))["project"]
    assert project["version"] == jobs.VERSION
    assert project["dependencies"] == [one.name for one in draft()]
