"""`python -m tests.supply.audit FILE...` (`make audit`): known vulnerabilities of locked packages, by pip-audit.

pip-audit ends well where the service that knows them answers for no package at all; this does not. Exit codes: 0 none
is known of any package; 1 some are; 2 it cannot be told.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

NONE_KNOWN, SOME_KNOWN, UNTOLD = 0, 1, 2
SECONDS = 600  # a hundred packages, asked one after another over a slow connection


def judge(dependencies: Sequence[dict[str, Any]]) -> tuple[int, list[str]]:
    """What pip-audit's answer means.

    Args:
        dependencies: As it writes them in JSON: each has "vulns", or a "skip_reason" where it could not be told.

    Returns:
        The exit code and lines that say why; vulnerabilities count for more than what could not be told.
    """
    lines = []
    for one in dependencies:
        for found in one.get("vulns", []):
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            lines.append(f"{one['name']} {one['version']}: {found['id']}, mended in {fixed}")
    untold = [one for one in dependencies if "vulns" not in one]
    if untold:
        lines.append(
            f"Not audited: {len(untold)} of {len(dependencies)} packages. The first: {untold[0]['skip_reason']}."
            " Where that is all of them, the service that knows vulnerabilities cannot be reached from here."
        )
    if not dependencies:
        lines.append("Not audited: pip-audit names no package.")
    if any(one.get("vulns") for one in dependencies):
        return SOME_KNOWN, lines
    if untold or not dependencies:
        return UNTOLD, lines
    return NONE_KNOWN, [f"No vulnerability is known of these {len(dependencies)} packages."]


def main(files: Sequence[str]) -> int:
    """Audit every pin of some requirements files, as they are, without resolving; its exit code."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--disable-pip", "--no-deps", *(word for file in files for word in ("--requirement", file))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        dependencies = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"Not audited: the service that knows vulnerabilities has not answered in {SECONDS} s.")
        return UNTOLD
    except (ValueError, KeyError, TypeError):  # no JSON: it broke off
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"Not audited: pip-audit ended with code {done.returncode}: {last}")
        return UNTOLD
    code, lines = judge(dependencies)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
