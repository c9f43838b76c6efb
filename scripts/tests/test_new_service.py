"""A generated service is one of the family from its first minute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.new_service import REPOSITORY, create


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(
        (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (tmp_path / "services").mkdir()
    return tmp_path


def test_a_generated_service_is_tidy_and_can_be_built(repository: Path) -> None:
    """Format, lint and composition root hold without a change by hand; the workspace knows it."""
    target = create("pantry", repository)
    ruff = [sys.executable, "-m", "ruff"]

    assert subprocess.run([*ruff, "check", target], cwd=repository, check=False).returncode == 0
    assert subprocess.run([*ruff, "format", "--check", target], cwd=repository, check=False).returncode == 0
    told = dict.fromkeys(("VAJ_DATABASE_URL", "VAJ_BROKER_URL", "VAJ_REDIS_URL", "VAJ_SECRET_KEY"), "x")
    ports = {"VAJ_API_PORT": "1", "VAJ_OPS_PORT": "2", "PYTHONPATH": str(target / "src")}
    code = "from pantry.main import build; assert build().name == 'pantry'"
    assert subprocess.run([sys.executable, "-c", code], env=told | ports, check=False).returncode == 0
    assert '"services/pantry"]' in (repository / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["", "ab", "Pantry", "pan-try", "../x", "pão"])
def test_a_name_that_cannot_be_one_is_refused(repository: Path, name: str) -> None:
    """Nothing is written for a bad name."""
    with pytest.raises(ValueError, match="name"):
        create(name, repository)
    assert list((repository / "services").iterdir()) == []


def test_an_existing_service_is_left_alone(repository: Path) -> None:
    """A second run overwrites nothing."""
    create("pantry", repository)
    with pytest.raises(ValueError, match="there already"):
        create("pantry", repository)
