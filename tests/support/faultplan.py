"""The plan of faults: its groups, how many cases each has, and the table of how many of them
passed.

A test belongs to a group by the mark `fault("F")`; each of its parametrized items is one case, or
as many as `fault("A", cases=4)` says. `make torture` runs the marked tests and prints the table; a
group with fewer cases than planned fails it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

GROUPS = {
    "A": ("exact resume", 150),
    "B": ("file system", 14),
    "C": ("damaged checkpoints", 1024),
    "D": ("malicious checkpoints", 70),
    "E": ("data files", 30),
    "F": ("downloads", 22),
    "G": ("signals", 18),
    "H": ("numbers", 7),
    "I": ("concurrency", 10),
    "J": ("clocks", 4),
    "K": ("environment", 14),
    "L": ("incompatible checkpoints", 8),
    "M": ("TensorBoard", 6),
    "N": ("own code and data", 868),
}


@dataclass
class FaultTable:
    """A pytest plugin that counts the cases of each group, and says at the end how many passed."""

    cases: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Have the reports of every marked item say its group: tests may run in other processes
        than this one.
        """
        for item in items:
            mark = item.get_closest_marker("fault")
            if mark is not None:
                group, cases = mark.args[0], mark.kwargs.get("cases", 1)
                assert group in GROUPS, f"{item.nodeid}: there is no group {group}"
                item.user_properties.append(("fault", (group, cases)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count an item once: when it ran, or when it could not be set up."""
        properties: dict[str, Any] = dict(report.user_properties)
        found = properties.get("fault")
        if found is None or not (report.when == "call" or report.outcome != "passed"):
            return
        group, cases = found
        if report.when == "teardown":
            self.passed[group] -= cases
            return
        self.cases[group] += cases
        self.passed[group] += cases * report.passed
        self.skipped[group] += cases * report.skipped

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Too few cases are a failure as well."""
        is_worker = hasattr(session.config, "workerinput")
        is_short = any(self.cases[group] < planned for group, (_, planned) in GROUPS.items())
        if session.exitstatus == 0 and is_short and not is_worker:
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table: group, cases, passed."""
        terminalreporter.section("faults")
        terminalreporter.line(f"{'group':<30}{'planned':>9}{'cases':>9}{'passed':>9}{'skipped':>9}")
        for group, (title, planned) in GROUPS.items():
            counts = (planned, self.cases[group], self.passed[group], self.skipped[group])
            terminalreporter.line(
                f"{group} {title:<28}" + "".join(f"{count:>9,}" for count in counts)
            )
        totals = (
            sum(planned for _, planned in GROUPS.values()),
            self.cases.total(),
            self.passed.total(),
        )
        terminalreporter.line(
            f"{'all':<30}" + "".join(f"{count:>9,}" for count in (*totals, self.skipped.total()))
        )
