from pathlib import Path

import pytest

from dinoviz.preferences import WIDEST_PX, Memory, Preferences, read_memory, read_preferences, write_preferences

DEEP = 100_000


@pytest.mark.parametrize("said", ["3", '["a"]', '"x"', "{ a = 3 }"])
def test_keys_that_make_no_sense_are_left_out_and_the_rest_holds(tmp_path: Path, said: str) -> None:
    path = tmp_path / "preferences.toml"
    path.write_text(f'keys = {said}\ntheme = "dark"\n')
    assert read_preferences(path) == (Preferences(theme="dark"), "")


def test_preferences_nested_beyond_reading_are_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "preferences.toml"
    path.write_text("x = " + "[" * DEEP)
    preferences, wrong = read_preferences(path)
    assert preferences == Preferences()
    assert "put aside" in wrong
    path.write_text("x = " + "[" * DEEP)
    write_preferences(Preferences(theme="dark"), path)
    assert read_preferences(path)[0].theme == "dark"


def test_a_memory_nested_beyond_reading_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    path.write_text("[" * DEEP)
    memory, wrong = read_memory(path)
    assert memory == Memory()
    assert "put aside" in wrong
    assert not path.exists()


def test_a_panel_is_no_wider_than_a_screen_whatever_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    path.write_text(f'{{"inspector_px": {10**30}}}')
    assert read_memory(path) == (Memory(inspector_px=WIDEST_PX), "")
