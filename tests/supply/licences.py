"""`python -m tests.supply.licences` (`make licences`): the licence of every package that the program runs with.

Ends with code 1 where one of them can only be had under the GPL or AGPL, or carries a library that is, beyond those in
CARRIED. Looks at what is installed; texts of licences are not read.
"""

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path, PurePath
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
# Wheels under free licences that bring libraries under the GPL: pip takes them from PyPI to the user, and this project
# contains none. What is given on together with them is under the GPL.
CARRIED = {
    "av": {"x264", "x265"},  # FFmpeg's H.264 encoder, which writes every clip; x265 comes along and is not used
    "pillow-heif": {"x265"},  # comes along with the decoder of HEIC pictures and is not used
}
# Source: FFmpeg, configure, EXTERNAL_LIBRARY_GPL_LIST; then others of which there are wheels
GPL_LIBRARIES: tuple[str, ...] = (
    "avisynth",
    "frei0r",
    "cdio",
    "davs2",
    "dvdnav",
    "dvdread",
    "rubberband",
    "vidstab",
    "x264",
    "x265",
)
GPL_LIBRARIES += ("xavs", "xavs2", "xvid", "xvidcore", "espeak-ng", "fftw3", "fftw3f", "gsl", "postproc", "readline")
LIBRARY = re.compile(rf"(?:lib)?({'|'.join(GPL_LIBRARIES)})(?:[-.]\S*)?\.(?:so(?:\.\d+)*|dylib|dll)", re.I)
GPL = re.compile(r"\bA?GPL|(?<!Lesser )(?<!Library )General Public License", re.I)  # not LGPL


@dataclass(frozen=True)
class Package:
    """One installed package.

    Args:
        name: Canonical.
        version: Installed.
        licence: As its metadata says, "" where they say nothing.
        libraries: Of GPL_LIBRARIES, those among its files.
    """

    name: str
    version: str
    licence: str
    libraries: frozenset[str]

    @property
    def is_gpl(self) -> bool:
        """Whether its own licence is the GPL or the AGPL, without another one to choose."""
        return all(GPL.search(choice) for choice in re.split(r"\bOR\b", self.licence))


def requirements(path: Path) -> list[Requirement]:
    """Those of a requirements file."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def run_time(wanted: Iterable[Requirement]) -> list[Package]:
    """These packages and all that they need on this machine, by name.

    Raises:
        importlib.metadata.PackageNotFoundError: one is not installed.
    """
    waiting, found = list(wanted), {}
    while waiting:
        one = waiting.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in found or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        found[key] = installed = importlib.metadata.distribution(one.name)
        for needed in map(Requirement, installed.requires or []):
            extras = one.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                needed.marker = None  # met, extras included
                waiting.append(needed)
    return sorted({package_of(one) for one in found.values()}, key=lambda package: package.name)


def package_of(installed: Distribution) -> Package:
    """What is told of an installed package."""
    names = [PurePath(str(file)).name for file in installed.files or []]
    libraries = frozenset(match[1].lower() for name in names if (match := LIBRARY.fullmatch(name)))
    return Package(canonicalize_name(installed.name), installed.version, licence_of(installed), libraries)


def licence_of(installed: Distribution) -> str:
    """As its metadata say: an SPDX expression, else classifiers, else the first line of a field that may hold more."""
    metadata: Any = installed.metadata  # an email's headers, whatever its type says
    classifiers = [one.split(" :: ")[-1] for one in metadata.get_all("Classifier", []) if one.startswith("License ::")]
    lines = (metadata.get("License") or "").strip().splitlines()
    return metadata.get("License-Expression") or " OR ".join(classifiers) or next(iter(lines), "")


def faults(packages: Iterable[Package]) -> list[str]:
    """What stands against some packages."""
    found = [f"{one.name}: no licence is named" for one in packages if not one.licence]
    found += [f"{one.name}: {one.licence}" for one in packages if one.licence and one.is_gpl]
    for one in packages:
        for library in sorted(one.libraries - CARRIED.get(one.name, set())):
            found.append(f"{one.name} carries {library}, which is under the GPL")
    return found


def main() -> int:
    """Print the table, and what stands against it."""
    has_avatar = importlib.util.find_spec("diffusers") is not None
    packages = run_time(requirements(ROOT / ("requirements.txt" if has_avatar else "requirements-draft.txt")))
    width = max(len(one.name) for one in packages)
    for one in packages:
        carried = f"  (carries {', '.join(sorted(one.libraries))}: GPL)" if one.libraries else ""
        print(f"{one.name:{width}}  {one.version:14}  {one.licence}{carried}")
    found = faults(packages)
    print(f"\n{len(packages)} packages; under the GPL: {len(found) or 'none'}", end="")
    print(f", but for libraries in the wheels of {' and '.join(CARRIED)}, see NOTICE")
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
