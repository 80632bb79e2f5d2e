"""`python -m tests.faults.run` (`make faults`): every fault that a test makes, and whether the program survived it."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = [
    HERE / "test_faults.py",
    HERE / "page_faults.py",
    # faults that have a place of their own
    HERE.parent / "test_cli.py::test_a_stopped_render_leaves_nothing",
    HERE.parent / "test_media.py::test_a_full_disk_is_told_and_leaves_nothing_however_late_it_fills",
    HERE.parent / "test_files.py",
    HERE.parent / "test_jobs.py",
    HERE.parent / "avatar" / "test_jobs_survive.py",
]


class Table:
    """A line for each fault, as it is met."""

    def __init__(self) -> None:
        self.counts = {"survived": 0, "NOT SURVIVED": 0, "not tried": 0}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            outcome = {"passed": "survived", "failed": "NOT SURVIVED", "skipped": "not tried"}[report.outcome]
            self.counts[outcome] += 1
            name = report.location[2].removeprefix("test_").replace("_", " ")
            why = f" ({report.longrepr[2]})" if isinstance(report.longrepr, tuple) else ""
            print(f"{outcome:<13} {name}{why}", flush=True)


if __name__ == "__main__":
    table = Table()
    code = pytest.main(["-q", "--no-header", "-p", "no:terminalreporter", *map(str, TESTS)], plugins=[table])
    print(", ".join(f"{count} {outcome}" for outcome, count in table.counts.items()))
    sys.exit(code)
