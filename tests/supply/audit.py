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


def ask(file: str) -> list[dict[str, Any]]:
    """What pip-audit finds of every pin of a requirements file, as it stands there, without resolving.

    Raises:
        RuntimeError: it broke off; why, in words.
    """
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--disable-pip", "--no-deps", "--requirement", file]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        return found
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"the service that knows vulnerabilities has not answered in {SECONDS} s") from error
    except (ValueError, KeyError, TypeError) as error:  # no JSON
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RuntimeError(f"pip-audit ended with code {done.returncode}: {last}") from error


def main(files: Sequence[str]) -> int:
    """Audit requirements files, one by one as pip-audit takes none with hashes beside one without; the exit code."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for file in files:
        try:
            found |= {(one["name"], one.get("version", "")): one for one in ask(file)}
        except RuntimeError as error:
            print(f"Not audited: {file}: {error}")
            return UNTOLD
    code, lines = judge(list(found.values()))
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
