"""The folder golden cases are found in: this one, or `pytest tests/golden --golden-root DIR`."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=Path,
        default=None,
        help="folder that holds graphcast/ and other golden cases (default: tests/golden)",
    )
