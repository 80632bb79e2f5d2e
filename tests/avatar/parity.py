"""Our numbers beside those recorded from the published code.

    python -m tests.avatar.parity FOLDER

Runs every golden found in FOLDER and prints a table of the largest differences; exits with 1 when one is above its
tolerance, or when the folder holds none.
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.avatar import checks
from tests.avatar.checks import Difference


def differences(folder: Path) -> Iterator[Difference]:
    """Every golden of the folder beside our number."""
    for module in pkgutil.iter_modules(checks.__path__):
        yield from importlib.import_module(f"{checks.__name__}.{module.name}").differences(folder)


def main(folder: Path) -> int:
    """Print the table.

    Returns:
        The process's exit status.
    """
    failed, found = 0, 0
    for difference in differences(folder):
        found += 1
        is_within = difference.found <= difference.tolerance  # false for NaN
        failed += not is_within
        verdict = "ok  " if is_within else "FAIL"
        print(f"{verdict} {difference.found:10.2e} of {difference.tolerance:7.1e}  {difference.golden}")
    print(f"{found} goldens in {folder}, {failed} outside their tolerance")
    return 1 if failed or not found else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
