import shutil
from pathlib import Path

import pytest

from tests.tour import run_all

PHOTOS = Path(__file__).parents[2] / "resources" / "photos"
TRAINS_S = 3.0


@pytest.mark.slow
def test_a_first_time_user_comes_from_a_dropped_folder_to_masks_and_back_after_a_kill(tmp_path: Path) -> None:
    shutil.copytree(PHOTOS, tmp_path / "photos")
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    found = run_all(tmp_path / "photos", out, home, TRAINS_S)
    tour, again = found["tour"], found["reopen"]
    assert "photos" in tour["said before letting go"]
    assert tour["selected"] == again["selected"] > 0
    assert tour["keep"] == again["keep"] < 0.6
    assert again["place"] == "look"
    assert (again["runs"], again["model"]) == (1, str(tmp_path / "photos.dinoviz" / "runs" / "0001"))
    assert list((out / "masks").rglob("*.png"))
    assert (out / "features" / "vectors.npy").exists()
    assert sum(step["actions"] for step in tour.values() if isinstance(step, dict) and "actions" in step) <= 40
