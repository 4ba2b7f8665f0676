from pathlib import Path

import pytest

from tests.dinoviz.projects import scanned
from tests.window_kills import kill_once


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "after_s"), [("window", 0.4), ("window", 4.0), ("vision", 4.0), ("train", 4.0)])
def test_a_kill_leaves_no_process_and_loses_at_most_two_seconds(tmp_path: Path, victim: str, after_s: float) -> None:
    project = scanned(tmp_path, 16)
    home = tmp_path / "home"
    home.mkdir()
    assert kill_once(project, home, after_s, victim, seed=1) == []
