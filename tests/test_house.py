"""The rules of the house hold: style, types, who may import whom."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["importlinter.cli", "lint-imports"],
    ],
    ids=["lint", "format", "types", "imports"],
)
def test_the_source_keeps_the_rules(command):
    if command[0] == "importlinter.cli":
        arguments = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    else:
        arguments = [sys.executable, "-m", *command]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
