from pathlib import Path

from pytestqt.qtbot import QtBot

from dinoviz.window.export_dialog import KINDS, ExportDialog
from engine.catalogue import EXPORTS
from tests.dinoviz.projects import scanned, with_features
from tests.dinoviz.windows import opened, wait


def test_what_is_exported_is_the_command_that_is_shown(qtbot: QtBot, tmp_path: Path) -> None:
    folder = scanned(tmp_path)
    with_features(folder)
    with opened(folder) as window:
        dialog = ExportDialog(window.desk, "embeddings", window)
        dialog._list.setCurrentRow(3)  # csv
        assert dialog._out.text().endswith(".csv")
        dialog._out.setText(str(tmp_path / "features.csv"))
        assert (
            dialog._shown.text()
            == f"engine export embeddings {folder} --set 1 --format csv --out {tmp_path}/features.csv"
        )
        dialog._begin()
        wait(lambda: window.desk.session.state.jobs[-1].is_over)
        assert (tmp_path / "features.csv").read_text().count("\n") == 13


def test_the_features_of_any_set_can_be_taken(qtbot: QtBot, tmp_path: Path) -> None:
    folder = scanned(tmp_path)
    with_features(folder)
    with_features(folder, model_sha256="1" * 64)
    with opened(folder) as window:
        dialog = ExportDialog(window.desk, "embeddings", window)
        assert "--set 2" in dialog._shown.text()
        dialog._sets.setCurrentIndex(1)
        assert "--set 1" in dialog._shown.text()


def test_nothing_is_overwritten_unless_it_is_said(qtbot: QtBot, tmp_path: Path) -> None:
    folder = scanned(tmp_path)
    with_features(folder)
    (tmp_path / "there").mkdir()
    with opened(folder) as window:
        dialog = ExportDialog(window.desk, "embeddings", window)
        dialog._out.setText(str(tmp_path / "there"))
        assert not dialog._start.isEnabled()
        dialog._overwrite.setChecked(True)
        assert dialog._start.isEnabled()
        dialog._out.setText(str(tmp_path / "nowhere" / "x"))
        assert "no folder" in dialog._said.text()


def test_everything_of_the_catalogue_can_be_exported() -> None:
    in_look = {"masks", "attention"}
    assert {row.what for row in EXPORTS} == {*KINDS, *in_look}
