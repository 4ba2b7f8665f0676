"""What was written can be shown, and thrown away again."""

import send2trash

from dinoviz import written
from dinoviz.written import tell_written
from tests.dinoviz.desks import made_desk


def test_what_was_written_can_be_shown_and_thrown_away_with_the_facts_beside_it(qtbot, tmp_path, monkeypatch):
    table = tmp_path / "features.csv"
    about = tmp_path / "features.csv.about.json"
    for path in (table, about, tmp_path / "other.csv"):
        path.write_text("x")
    shown, thrown = [], []
    monkeypatch.setattr(written, "reveal", shown.append)
    monkeypatch.setattr(send2trash, "send2trash", thrown.extend)
    with made_desk(qtbot) as desk:
        told = []
        desk.session.noticed.connect(told.append)
        tell_written(desk, table)
        doings = dict(told[0].doings)
        doings["Show"]()
        assert shown == [table]
        doings["Move to trash"]()
        qtbot.waitUntil(lambda: len(told) == 2)
        assert thrown == [str(table), str(about)]
        assert told[1].text == "'features.csv' is in the trash."


def test_what_cannot_be_thrown_away_is_said(qtbot, tmp_path, monkeypatch):
    def refuse(_paths: list[str]) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(send2trash, "send2trash", refuse)
    with made_desk(qtbot) as desk:
        told = []
        desk.session.noticed.connect(told.append)
        tell_written(desk, tmp_path / "masks")
        dict(told[0].doings)["Move to trash"]()
        qtbot.waitUntil(lambda: len(told) == 2)
        assert told[1].level == "error" and "Operation not permitted" in told[1].text
