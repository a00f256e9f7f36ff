"""A table of what tests have seen, printed at the end of their session."""

from __future__ import annotations

from collections.abc import Sequence

import pytest


def write(reporter: pytest.TerminalReporter, name: str, heads: Sequence[str], files: str, title: str) -> None:
    """Print the rows that tests of these files have put among their properties under a name; of failed ones too."""
    rows = []
    for reports in reporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and files in report.nodeid and report.when == "call":
                row = dict(report.user_properties).get(name)
                row = row or [report.nodeid.partition("::test_")[2], *["-"] * (len(heads) - 1)]
                rows.append(row if report.passed else [row[0], f"TEST {report.outcome.upper()}", *row[2:]])
    if not rows:
        return
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    reporter.section(title)
    for row in [heads, *rows]:
        reporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
