import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractScrollArea, QApplication, QComboBox, QWidget

from dinoviz.desk import Desk
from dinoviz.jobs import Job
from dinoviz.session import RunRow
from dinoviz.views.train import machine_facts
from dinoviz.views.train import view as train
from dinoviz.views.train.infos import read_infos
from dinoviz.views.train.runs import knn_in_words
from dinoviz.views.train.view import TrainView
from engine.facts import Machine
from engine.protocol import Made
from tests.dinoviz.desks import made_desk
from tests.dinoviz.projects import scanned
from tests.dinoviz.runs import made_run, measured, tell, write_looks
from tests.killing import TINY

ENGINE = [sys.executable, "-m", "engine"]
ENGINE_MS = 60_000
CPU = Machine(
    device="cpu", device_name="x", device_memory_bytes=16 << 30, has_bf16=True, cores=2, memory_bytes=16 << 30
)


@pytest.fixture
def project(tmp_path) -> Path:
    return scanned(tmp_path, 12)


@pytest.fixture
def desk(qtbot, project, monkeypatch) -> Desk:
    monkeypatch.setattr(machine_facts, "_remembered", lambda: ((CPU,), False))
    with made_desk(qtbot) as desk:
        desk.session.open(project)
        desk.session.go("train")
        qtbot.waitUntil(lambda: len(desk.session.state.table) == 12)
        yield desk


@pytest.fixture
def view(qtbot, desk) -> TrainView:
    made = TrainView(desk)
    qtbot.addWidget(made)
    made.resize(1200, 800)
    made.show()
    qtbot.waitUntil(lambda: made._has_read)
    made.draw()
    return made


def choose(view: TrainView, **changes: object) -> None:
    session = view._desk.session
    session.choose(train=replace(session.state.choices.train, **changes))


def shown_state(view: TrainView) -> str:
    info = view._info()
    return info.state if info else ""


def test_without_runs_the_form_is_there_and_says_what_it_will_take(qtbot, view):
    assert view._no_runs.isVisible()
    assert view._stack.currentWidget() is view.new_page
    assert view.new_page.start_button.isEnabled()
    assert "About" in view.new_page._plan_line.text()
    assert "12 pictures" in view.new_page._lines[0].text()


def test_whatever_takes_the_focus_has_a_name(qtbot, view, desk, project):
    write_looks(made_run(project), ["cat/p00.jpg"])
    desk.session.refresh()
    qtbot.waitUntil(lambda: len(view.runs.cards) == 1)
    view.look_at(1)
    qtbot.waitUntil(lambda: view._run_page is not None and 1 in view._logs)
    for page in (1, 0):
        view.look_at(page)
        wanted = view.run_page if page else view.new_page
        qtbot.waitUntil(wanted.isVisible)
        for widget in view.findChildren(QWidget):
            takes_focus = widget.isVisible() and widget.focusPolicy() & Qt.FocusPolicy.TabFocus
            if takes_focus and not isinstance(widget.parent(), QComboBox | QAbstractScrollArea):
                assert widget.accessibleName(), f"{type(widget).__name__} in {type(widget.parent()).__name__}"


def test_two_runs_wait_in_a_queue(qtbot, view, desk):
    choose(view, texts=(("epochs", "1"), ("device", "cpu")))
    qtbot.waitUntil(lambda: "1 epoch:" in view.new_page._lines[0].text())
    qtbot.mouseClick(view.new_page.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: view.new_page.start_button.text() == "Add to queue")
    qtbot.mouseClick(view.new_page.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: view._queued.isVisible())
    first, second = desk.session.state.jobs
    assert (first.state, second.state) == ("running", "waiting")
    desk.jobs.stop(second.id)
    qtbot.waitUntil(lambda: not view._queued.isVisible())


def test_what_is_typed_is_settled_and_remembered(qtbot, view, desk):
    page = view.new_page
    qtbot.keyClicks(page.form.rows["epochs"].control, "5")
    qtbot.waitUntil(lambda: "5 epochs" in page._lines[0].text())
    assert ("epochs", "5") in desk.session.state.choices.train.texts
    page.form.rows["batch"].control.setText("99")
    qtbot.waitUntil(lambda: not page.start_button.isEnabled())
    assert "Pictures a step" in page._wrong.text()
    qtbot.mouseClick(page._all_auto, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: page.start_button.isEnabled())


def test_a_selection_is_what_the_command_names(qtbot, view, desk):
    desk.session.select(desk.session.state.table.ids_N[:5])
    choose(view, scope="selection")
    qtbot.waitUntil(lambda: "5 pictures" in view.new_page._lines[0].text())
    view.new_page.copy_command()
    command = QApplication.clipboard().text()
    assert command.startswith("engine train ")
    path = Path(command.split("--only ")[1].split()[0])
    assert len(path.read_text().splitlines()) == 5


def test_a_run_file_comes_back_into_the_form(qtbot, view, desk, tmp_path):
    choose(view, texts=(("epochs", "5"), ("koleo", "0.1")))
    qtbot.waitUntil(lambda: "5 epochs" in view.new_page._lines[0].text())
    view.new_page.write_file(tmp_path / "run.toml")
    choose(view, texts=())
    view.new_page.take_file(tmp_path / "run.toml")
    assert dict(desk.session.state.choices.train.texts) == {"epochs": "5", "koleo": "0.1"}
    told: list[str] = []
    desk.session.noticed.connect(lambda notice: told.append(notice.text))
    (tmp_path / "run.toml").write_text("epochs = many\n")
    view.new_page.take_file(tmp_path / "run.toml")
    assert told


def test_a_published_recipe_is_taken_over_whole(qtbot, view, desk):
    view.new_page.take_preset("vits14-short")
    texts = dict(desk.session.state.choices.train.texts)
    assert (texts["objective"], texts["model"], texts["layer_decay"]) == ("dinov2", "vit-small/14", "0.9")
    assert len(view.new_page.presets.actions()) > 8


def test_runs_are_listed_as_they_are(qtbot, view, desk, project):
    made_run(project)
    made_run(project, state="started")
    failed = made_run(project, state="failed")
    tell(failed, measured(17, knn=0.5))
    desk.session.refresh()
    qtbot.waitUntil(lambda: len(view.runs.cards) == 3)
    states = {info.number: info.state for info in view._infos}
    assert states == {1: "finished", 2: "interrupted", 3: "failed"}
    assert "k-NN 50.0 %" in view.runs.cards[3].accessibleName()
    qtbot.keyClick(view.runs.cards[3], Qt.Key.Key_Down)
    qtbot.waitUntil(lambda: shown_state(view) == "interrupted")
    qtbot.waitUntil(lambda: view.run_page.resume.isVisible())
    assert not view.run_page.stop.isVisible()


def test_a_run_grows_while_it_is_looked_at(qtbot, view, desk, project, monkeypatch):
    monkeypatch.setattr(train, "IDLE_MS", 50)
    run = made_run(project, state="started", events=3)
    desk.session.refresh()
    qtbot.waitUntil(lambda: len(view.runs.cards) == 1)
    view.look_at(1)
    qtbot.waitUntil(lambda: 1 in view._logs and view._logs[1].step == 3)
    tell(run, measured(150, ln_k_share=1.0))
    qtbot.waitUntil(lambda: view._logs[1].step == 150)
    qtbot.waitUntil(lambda: view.run_page._card.isVisible())
    assert "uniform" in view.run_page._ailment.text()


def test_runs_are_compared_by_their_curves_and_probe_pictures(qtbot, view, desk, project):
    for _ in range(2):
        write_looks(made_run(project), ["cat/p00.jpg", "dog/p01.jpg"])
    desk.session.refresh()
    qtbot.waitUntil(lambda: len(view.runs.cards) == 2)
    view.look_at(2)
    qtbot.mouseClick(view.runs.cards[1].compare, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: [log.number for log in view.run_page.curves._logs] == [2, 1])
    qtbot.mouseClick(view.run_page.tabs._buttons["pictures"], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: set(view.run_page.probes._sheets) == {1, 2})
    qtbot.mouseClick(view.runs.cards[1].compare, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: set(view.run_page.probes._sheets) == {2})


def test_a_run_is_renamed_used_copied_and_prepared_again(qtbot, view, desk, project):
    run = made_run(project, koleo="0.1")
    (run / "backbone.safetensors").write_bytes(b"x")
    desk.session.refresh()
    qtbot.waitUntil(lambda: len(view.runs.cards) == 1)
    view.look_at(1)
    qtbot.waitUntil(lambda: 1 in view._logs and view._run_page is not None)
    about = view.run_page._about
    qtbot.mouseClick(view.run_page.use, Qt.MouseButton.LeftButton)
    assert desk.session.state.model == str(run)
    qtbot.waitUntil(lambda: not view.run_page.use.isEnabled())
    about.setFocus()
    about.selectAll()
    qtbot.keyClicks(about, "First try")
    qtbot.keyClick(about, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: desk.session.state.runs[0].about == "First try")
    view.copy_command()
    assert "--koleo=0.1" in QApplication.clipboard().text()
    view.again()
    assert dict(desk.session.state.choices.train.texts) == {"batch": "4", "epochs": "16", "koleo": "0.1"}
    assert desk.session.state.choices.train.page == 0


def test_a_run_that_is_thrown_away_is_gone_and_its_number_stays_taken(qtbot, view, desk, project, monkeypatch):
    run = made_run(project)
    thrown: list[Path] = []

    def to_trash(folder: Path) -> None:
        thrown.append(folder)
        folder.rename(folder.with_name("trash"))

    monkeypatch.setattr(train, "_to_trash", to_trash)
    desk.session.refresh()
    qtbot.waitUntil(lambda: len(view._infos) == 1)
    view._throw_away(project, view._infos[0])
    qtbot.waitUntil(lambda: not view.runs.cards)
    assert thrown == [run]
    assert made_run(project).name == "0002"


def test_another_project_shows_its_own_runs_though_they_have_the_same_numbers(qtbot, view, desk, project, tmp_path):
    made_run(project, events=3)
    other = scanned(tmp_path / "other", 4)
    run = made_run(other, events=9)
    desk.session.refresh()
    qtbot.waitUntil(lambda: len(view.runs.cards) == 1)
    view.look_at(1)
    qtbot.waitUntil(lambda: 1 in view._logs and view._logs[1].step == 3)
    desk.session.open(other)
    qtbot.waitUntil(lambda: [info.folder for info in view._infos] == [run])
    view.look_at(1)
    qtbot.waitUntil(lambda: 1 in view._logs and view._logs[1].step == 9)
    assert view._logs[1].run == run


def test_a_run_that_begins_in_another_project_is_not_gone_to(qtbot, view, desk, project):
    started = Made(what="run", path=str(project / "runs" / "0003"))
    for folder, page in ((project.with_name("closed.dinoviz"), 0), (project, 3)):
        desk.session.set_job(Job(id=77, title="Train", argv=("train", str(folder)), state="running"))
        view._heard(77, started)
        assert view._page() == page


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal to another process there")
def test_a_run_of_another_process_is_found_stopped_and_can_be_gone_on_with(qtbot, view, desk, project):
    flags = [f"--{name}={value}" for name, value in (TINY | {"epochs": "5000", "measure-epochs": "0"}).items()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*ENGINE, "train", str(project), "--quiet", *flags]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:

            def is_running() -> bool:
                desk.session.refresh()
                return any(info.state == "running" and info.step > 0 for info in view._infos)

            qtbot.waitUntil(is_running, timeout=ENGINE_MS)
            assert view._infos[0].process == process.pid
            view.look_at(1)
            qtbot.waitUntil(lambda: shown_state(view) == "running")
            assert not view.run_page.stay.isVisible()
            qtbot.mouseClick(view.run_page.stop, Qt.MouseButton.LeftButton)
            assert process.wait(60) == 128 + signal.SIGINT
        finally:
            process.kill()
    qtbot.waitUntil(lambda: (desk.session.refresh(), shown_state(view) == "stopped")[1], timeout=10_000)
    qtbot.waitUntil(lambda: view.run_page.resume.isVisible())


def test_a_measurement_from_before_says_at_which_step_it_was_made(tmp_path):
    run = made_run(scanned(tmp_path), events=0)
    tell(run, measured(8, knn=0.512), measured(9), measured(10))
    (info,) = read_infos([RunRow(number=1, folder=run, started=0.0, state="stopped", about="")])
    assert (info.step, info.knn_step) == (10, 8)
    assert knn_in_words(info) == "k-NN 51.2 % at step 8"
    tell(run, measured(11, knn=0.6))
    (info,) = read_infos([RunRow(number=1, folder=run, started=0.0, state="stopped", about="")])
    assert knn_in_words(info) == "k-NN 60.0 %"
