"""What was skipped and why, at the end of a session; and where nothing may be missing, a failure if it is not listed.

`.ci/run` sets GRAPHUFS_NO_SKIPS=1: there every program that the tests need is installed.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator

import pytest

ALLOWED = (
    r"got empty parameter set for \(golden_with_nan\)",  # another set of golden cases may have one with NaN
    r"docker and its compose plugin are not installed",  # make test-compose, which comes later, has them
    r"there is no \.venv-cuda",  # six gigabytes of CUDA's libraries, for those who plan for GPUs
    r"there is no \.venv-earth2studio",  # gigabytes of PyTorch: make setup-earth2studio
    r"the real fields are not here",  # where ERA5 itself lies, they are read in place
    r"no Docker engine answers",  # .ci/run says itself whether there is one
)
"""Reasons that are well everywhere: what is missing does not belong to the machine."""


def reasons(reporter: pytest.TerminalReporter) -> Counter[str]:
    """Why tests were skipped, and how many for each reason."""
    found: Counter[str] = Counter()
    for report in reporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        found[reason.removeprefix("Skipped: ")] += 1
    return found


def unexpected(found: Counter[str]) -> list[str]:
    """The reasons that are not allowed where nothing may be missing."""
    if os.environ.get("GRAPHUFS_NO_SKIPS") != "1":
        return []
    return [reason for reason in found if not any(re.search(allowed, reason) for allowed in ALLOWED)]


class Plugin:
    """Tells what was skipped."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Let a session fail in which something was skipped that should not be."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and unexpected(reasons(reporter)) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return (yield)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List the reasons."""
        found = reasons(terminalreporter)
        if not found:
            return
        terminalreporter.section("skipped")
        wrong = unexpected(found)
        for reason, count in found.items():
            terminalreporter.write_line(f"{count:4} {'NOT ALLOWED HERE: ' if reason in wrong else ''}{reason}")
