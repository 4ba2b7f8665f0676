import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QProgressBar, QPushButton, QWidget

from dinoviz.jobs import Job
from dinoviz.sample import unpack_sample
from dinoviz.session import RunRow
from dinoviz.views.models.entries import depending, read_models
from dinoviz.views.models.view import ModelsView
from engine.facts import BUNDLED_FILE
from engine.protocol import Progress
from tests.dinoviz.desks import made_desk


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DINOVIZ_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache/models"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def sample(tmp_path):
    return unpack_sample(tmp_path / "sample")


@pytest.fixture
def view(qtbot):
    with made_desk(qtbot) as desk:
        made = ModelsView(desk)
        qtbot.addWidget(made)
        made.resize(1100, 800)
        made.show()
        made.activateWindow()
        qtbot.waitUntil(lambda: len(made._rows) > 10)
        yield made


def session(view):
    return view._desk.session


def row(view, model):
    return view._rows[model]


def buttons(widget):
    return {one.text(): one for one in widget.findChildren(QPushButton) if one.isVisibleTo(widget)}


def job(model, **more):
    return Job(id=7, title="Download", argv=("models", "get", model), **more)


def reread(qtbot, view, model, presence):
    view._read()
    qtbot.waitUntil(lambda: model in view._rows and row(view, model).entry.presence == presence)


# What there is


def test_every_known_network_is_listed_with_licence_size_and_memory(cache):
    entries = {entry.model: entry for entry in read_models(())}
    assert entries["bundled"].is_here and entries["dino_vits16"].presence == "remote"
    for entry in entries.values():
        assert entry.licence and entry.size_bytes and entry.memory_bytes and entry.source and entry.parameters


def test_the_runs_of_a_project_come_first_the_newest_before_the_others(sample):
    runs = [RunRow(number=n, folder=sample / f"runs/{n:04d}", started=0, state="finished", about="x") for n in (1, 2)]
    shutil.copytree(runs[0].folder, runs[1].folder)
    first, second, *_ = read_models(runs)
    assert (first.model, second.model) == (str(runs[1].folder), str(runs[0].folder))
    assert first.architecture == "vit-tiny/8" and first.parameters == 2_923_248


def test_a_run_that_was_cut_off_is_not_said_to_go_on(sample):
    cut_off = RunRow(number=1, folder=sample / "runs/0001", started=0, state="started", about="x")
    first, *_ = read_models([cut_off])
    assert first.about == "x · interrupted"


def test_a_run_that_saved_nothing_yet_is_not_listed(tmp_path):
    run = RunRow(number=1, folder=tmp_path, started=0, state="started", about="x")
    assert all(entry.family != "run" for entry in read_models([run]))


def test_states_are_told_from_the_files(cache):
    (cache / "dino_vits8.pth.part").write_bytes(b"0" * 1000)
    (cache / "dino_vits8.pth.part.json").write_text('{"address": "x", "validator": "", "total": 4000}')
    shutil.copy(BUNDLED_FILE, cache / "cells.safetensors")
    (cache / "mice.safetensors").write_bytes(b"0")
    (cache / "ledger.json").write_text('{"mice.safetensors": {"sha256": "x", "size": 2, "address": ""}}')
    entries = {entry.model: entry for entry in read_models(())}
    assert (entries["dino_vits8"].presence, entries["dino_vits8"].here_bytes) == ("partial", 1000)
    assert entries["cells"].presence == "here" and entries["cells"].family == "imported"
    assert entries["mice"].presence == "broken"


def test_what_was_made_with_a_network_is_named_before_it_is_deleted(sample, qtbot):
    with made_desk(qtbot) as desk:
        desk.session.open(sample)
        qtbot.waitUntil(lambda: len(desk.session.state.sets) == 2)
        entries = {entry.model: entry for entry in read_models(desk.session.state.runs)}
        assert "set 2" in depending(entries[str(sample / "runs/0001")], desk.session.state.sets)
        assert depending(entries["dino_vits16"], desk.session.state.sets) == ""


# The view


def test_using_one_tells_the_session_and_the_row_says_so(view, cache, qtbot):
    shutil.copy(BUNDLED_FILE, cache / "cells.safetensors")
    reread(qtbot, view, "cells", "here")
    buttons(row(view, "cells"))["Use"].click()
    assert session(view).state.model == "cells"
    qtbot.waitUntil(lambda: "in use" in row(view, "cells").accessibleName())
    assert "in use" not in row(view, "bundled").accessibleName()


def test_downloading_asks_the_engine_for_that_model(view, monkeypatch):
    started = []
    monkeypatch.setattr(type(view._desk.jobs), "start", lambda _self, argv, title, then=None: started.append(argv))
    buttons(row(view, "dino_vits16"))["Download"].click()
    assert started == [["models", "get", "dino_vits16"]]


def test_a_download_shows_how_far_it_is_and_can_be_stopped(view, qtbot, monkeypatch):
    told = Progress(what="getting", done=30, total=120, unit="B", eta_s=70)
    session(view).set_job(job("dino_vits16", state="running", progress=told))
    qtbot.waitUntil(lambda: row(view, "dino_vits16").is_downloading)
    bar = row(view, "dino_vits16").findChild(QProgressBar)
    assert bar.value() == 250
    session(view).set_job(job("dino_vits16", state="running", progress=replace(told, done=60)))
    qtbot.waitUntil(lambda: bar.value() == 500)
    stopped = []
    monkeypatch.setattr(type(view._desk.jobs), "stop", lambda _self, number: stopped.append(number))
    view._do("stop", "dino_vits16")
    assert stopped == [7]


def test_a_failed_download_says_why_and_offers_to_try_again(view, qtbot):
    session(view).set_job(job("dino_vits16", state="failed", error="No route.", hint="Later."))
    qtbot.waitUntil(lambda: "Try again" in buttons(row(view, "dino_vits16")))


def test_a_broken_off_download_can_be_gone_on_with(view, cache, qtbot):
    (cache / "dino_vits8.pth.part").write_bytes(b"0" * 1000)
    reread(qtbot, view, "dino_vits8", "partial")
    assert any(text.startswith("Go on") for text in buttons(row(view, "dino_vits8")))


def test_deleting_asks_first_and_keeping_keeps(view, cache, qtbot):
    shutil.copy(BUNDLED_FILE, cache / "cells.safetensors")
    reread(qtbot, view, "cells", "here")
    row(view, "cells").setFocus()
    qtbot.keyClick(row(view, "cells"), Qt.Key_Delete)
    buttons(row(view, "cells"))["Keep"].click()
    assert (cache / "cells.safetensors").exists()


def test_two_that_are_deleted_one_right_after_the_other_are_both_gone(view, cache, qtbot, monkeypatch):
    is_free = threading.Event()

    def send_away(path):
        is_free.wait(10)
        Path(path).unlink()

    for name in ("cells", "mice", "cats"):
        shutil.copy(BUNDLED_FILE, cache / f"{name}.safetensors")
    monkeypatch.setattr("dinoviz.views.models.view.send2trash", send_away)
    entries = [entry for entry in read_models(()) if entry.family == "imported"]
    for entry in entries:
        view._delete(entry)
    is_free.set()
    qtbot.waitUntil(lambda: not any(entry.path.exists() for entry in entries))


def test_deleting_moves_the_file_to_the_trash_and_looks_through_another(view, cache, qtbot, monkeypatch):
    shutil.copy(BUNDLED_FILE, cache / "cells.safetensors")
    reread(qtbot, view, "cells", "here")
    session(view).use_model("cells")
    monkeypatch.setattr("dinoviz.views.models.view.send2trash", lambda path: Path(path).unlink())
    view._do("delete", "cells")
    buttons(row(view, "cells"))["Move to trash"].click()
    qtbot.waitUntil(lambda: "cells" not in view._rows)
    assert session(view).state.model == "bundled" and not (cache / "cells.safetensors").exists()


def test_the_bundled_network_cannot_be_deleted(view, qtbot):
    qtbot.keyClick(row(view, "bundled"), Qt.Key_Delete)
    assert "Move to trash" not in buttons(row(view, "bundled"))


def test_search_and_families_narrow_the_list(view, qtbot):
    qtbot.keyClicks(view._search, "dino vit-small/8")
    qtbot.waitUntil(lambda: set(view._rows) == {"dino_vits8", "dino_vits8_300ep"})
    session(view).choose(models=replace(session(view).state.choices.models, text="", family="dinov2"))
    qtbot.waitUntil(lambda: bool(view._rows) and all(name.startswith("dinov2") for name in view._rows))
    assert view._search.text() == ""


def test_a_search_without_a_result_says_so_and_goes_back(view, qtbot):
    qtbot.keyClicks(view._search, "xyz")
    qtbot.waitUntil(lambda: "Show all" in buttons(view))
    buttons(view)["Show all"].click()
    qtbot.waitUntil(lambda: len(view._rows) > 10)


def test_arrows_walk_through_the_rows(view, qtbot):
    first, second = list(view._rows.values())[:2]
    first.setFocus()
    qtbot.keyClick(first, Qt.Key_Down)
    assert second.hasFocus()


def test_an_offered_file_is_checked_named_and_imported_by_the_engine(view, cache, qtbot, tmp_path):
    offered = shutil.copy(BUNDLED_FILE, tmp_path / "teacher.safetensors")
    session(view).choose(models=replace(session(view).state.choices.models, offered=str(offered)))
    qtbot.waitUntil(lambda: "Import" in buttons(view._import or view), timeout=30_000)
    card = view._import
    assert "teacher.safetensors is a vision transformer vit-tiny/8" in card._title.text()
    card._name.setText("cells")
    qtbot.keyClick(card._name, Qt.Key_Return)
    qtbot.waitUntil(lambda: "cells" in view._rows, timeout=30_000)
    assert view._import is None and session(view).state.choices.models.offered == ""
    assert (cache / "cells.safetensors").is_file()


def test_a_file_that_is_no_weights_is_said_not_to_be(view, qtbot, tmp_path):
    (tmp_path / "teacher.safetensors").write_bytes(b"nonsense" * 10)
    session(view).choose(
        models=replace(session(view).state.choices.models, offered=str(tmp_path / "teacher.safetensors"))
    )
    qtbot.waitUntil(lambda: bool(view._import) and "cannot be used" in view._import._title.text(), timeout=30_000)
    assert "Import" not in buttons(view._import)


def test_the_address_is_copied(view):
    view._do("copy", "dino_vits16")
    assert QApplication.clipboard().text().startswith("https://dl.fbaipublicfiles.com/dino/")


def test_everything_that_takes_the_focus_has_a_name(view):
    for widget in view.findChildren(QWidget):
        if widget.focusPolicy() != Qt.NoFocus and widget.isVisibleTo(view):
            assert widget.accessibleName(), widget
