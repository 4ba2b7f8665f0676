import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import QCoreApplication, QEvent, Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QApplication, QComboBox, QDialog, QLineEdit, QPushButton, QSystemTrayIcon, QWidget
from pytestqt.qtbot import QtBot
from shiboken6 import isValid

from dinoviz import crash_log, theme
from dinoviz.actions import ACTIONS, Actions
from dinoviz.engine_process import log_folder
from dinoviz.jobs import Job
from dinoviz.preferences import memory_file, preferences_file, read_preferences, write_preferences
from dinoviz.query import Query
from dinoviz.views import VIEWS
from dinoviz.widgets.picture.grid import PictureGrid
from dinoviz.window.bindings import LONG_S, tell_end
from dinoviz.window.command_palette import Entry, found
from engine.questions import Release
from tests.dinoviz.projects import scanned, with_features
from tests.dinoviz.windows import opened, pressing, stand_in, turn, wait
from tests.makers import write_photos

ENGINE_LIBRARIES = ("torch", "faiss", "cv2", "sklearn", "numba", "umap", "openTSNE", "pandas", "scipy")


def test_no_library_of_the_engine_is_loaded_by_the_window(tmp_path: Path) -> None:
    folder = scanned(tmp_path)
    with_features(folder)
    code = f"""
import sys
from pathlib import Path
from dinoviz.application import Application
application = Application([])
from tests.dinoviz.windows import opened, turn
from dinoviz.views import VIEWS
from dinoviz.widgets.picture.grid import PictureGrid
with opened(Path({str(folder)!r})) as window:
    for view in VIEWS:
        window.desk.session.go(view.name)
        turn(0.3)
print([name for name in {ENGINE_LIBRARIES!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_place_opens_with_and_without_a_project(qtbot: QtBot, tmp_path: Path) -> None:
    with opened() as window:
        for view in VIEWS:
            window.desk.session.go(view.name)
            turn(0.05)
            assert window.stack.currentWidget() is not None
    with opened(scanned(tmp_path, broken=1)) as window:
        for view in VIEWS:
            window.desk.session.go(view.name)
            turn(0.1)
            assert window.stack.currentWidget() is window.view(view.name)


def test_every_widget_that_takes_the_focus_has_a_name(qtbot: QtBot, tmp_path: Path) -> None:
    folder = scanned(tmp_path)
    with_features(folder)
    with opened(folder) as window:
        window.desk.session.set_current(1)
        for view in VIEWS:
            window.desk.session.go(view.name)
            turn(0.2)
        nameless = [
            f"{type(widget).__name__} in {type(widget.parent()).__name__}"
            for widget in window.findChildren(QWidget)
            if widget.focusPolicy() & Qt.FocusPolicy.TabFocus
            and not widget.isHidden()
            and not (widget.accessibleName() or getattr(widget, "text", str)() or widget.toolTip())
            and not widget.objectName().startswith("qt_")
            and not isinstance(widget.parent().parent(), QComboBox)  # the list of a box, which has the name
        ]
        assert nameless == []


def test_no_two_actions_share_keys_where_both_hold() -> None:
    for i, one in enumerate(ACTIONS):
        for other in ACTIONS[i + 1 :]:
            meets = not one.place or not other.place or one.place == other.place
            assert not (one.keys and meets and QKeySequence(one.keys) == QKeySequence(other.keys)), (one.id, other.id)


def test_every_action_of_the_table_is_bound_once_when_all_places_are_open(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scanned(tmp_path)
    with_features(folder)
    bound: Counter[str] = Counter()
    bind = Actions.bind
    monkeypatch.setattr(Actions, "bind", lambda self, name, *do: (bound.update([name]), bind(self, name, *do))[1])
    with opened(folder) as window:
        for view in VIEWS:
            window.desk.session.go(view.name)
            turn(0.1)
    assert bound == Counter(row.id for row in ACTIONS)


def test_stars_are_given_by_key_to_what_is_selected(qtbot: QtBot, tmp_path: Path) -> None:
    with opened(scanned(tmp_path)) as window:
        session = window.desk.session
        session.select([1, 2])
        window.desk.actions.trigger("picture.rate_4")
        assert session.state.marks.ratings == {1: 4, 2: 4}
        window.desk.actions.trigger("edit.undo")
        assert session.state.marks.ratings == {}


def test_what_is_done_is_found_by_a_few_letters(qtbot: QtBot) -> None:
    entries = [Entry(text=row.text, kind="command", do=lambda: None, words=row.words) for row in ACTIONS]
    wanted = {
        "undo": "Undo",
        "preferences": "Preferences",
        "settings": "Preferences",
        "dark": "Dark colours",
        "inspectr": "Show or hide the inspector",
        "libary": "Library",
        "tsne": "Map",
        "open fol": "Open folder…",
        "copy path": "Copy path",
        "onnx": "Export the backbone…",
        "shortcuts": "Keys",
        "coco": "Export masks…",
    }
    for typed, text in wanted.items():
        assert found(typed, entries)[0].text == text, typed


@pytest.mark.parametrize(
    ("typed", "texts"),
    [
        ("lasso", {"Lasso"}),
        ("dark", {"Dark colours"}),
        ("theme", {"Preferences", "Light colours", "Dark colours", "Colours of the system"}),
        ("save png", {"Save the map as PNG…"}),
        ("inspectr", {"Show or hide the inspector"}),
        ("xyzzy", set()),
    ],
)
def test_what_only_shares_letters_with_what_was_typed_is_not_found(qtbot: QtBot, typed: str, texts: set[str]) -> None:
    entries = [Entry(text=row.text, kind="command", do=lambda: None, words=row.words) for row in ACTIONS]
    assert {entry.text for entry in found(typed, entries)} == texts


def test_the_keyboard_is_where_it_was_after_the_palette(qtbot: QtBot, tmp_path: Path) -> None:
    with opened(scanned(tmp_path)) as window:
        window.activateWindow()
        grid = window.view("library").findChild(PictureGrid)
        grid.setFocus()
        window.desk.actions.trigger("view.palette")
        field = next(w for w in window.findChildren(QLineEdit) if w.accessibleName() == "Command palette")
        wait(field.hasFocus, 5)
        qtbot.keyClick(field, Qt.Key.Key_Escape)
        turn(0.05)
        assert QApplication.focusWidget() is grid


def test_a_pressed_button_that_goes_leaves_the_keyboard_in_its_place(qtbot: QtBot, tmp_path: Path) -> None:
    with opened(scanned(tmp_path)) as window:
        window.activateWindow()
        window.desk.session.go("find")
        wait(lambda: any(b.text() == "Compute features" for b in window.view("find").findChildren(QPushButton)))
        button = next(b for b in window.view("find").findChildren(QPushButton) if b.text() == "Compute features")
        button.setFocus()
        qtbot.keyClick(button, Qt.Key.Key_Space)
        wait(lambda: not isValid(button) or not button.isVisible())
        turn(0.05)
        focused = QApplication.focusWidget()
        assert window.view("find").isAncestorOf(focused) and not isinstance(focused, QLineEdit)


def test_the_palette_opens_by_its_keys_and_does_what_was_chosen(qtbot: QtBot, tmp_path: Path) -> None:
    with opened(scanned(tmp_path)) as window:
        window.activateWindow()
        window.desk.actions.trigger("view.palette")
        field = next(w for w in window.findChildren(QLineEdit) if w.accessibleName() == "Command palette")
        qtbot.keyClicks(field, "dark col")
        qtbot.keyClick(field, Qt.Key.Key_Return)
        turn(0.05)
        assert theme.is_dark()
        assert not field.isVisible()
        window.desk.actions.trigger("view.light")
        window.desk.actions.trigger("view.palette")
        qtbot.keyClicks(field, "p03")
        wait(lambda: field.parent()._rows.entries and field.parent()._rows.entries[-1].kind == "picture", 5)
        field.parent()._rows.entries[-1].do()
        assert window.desk.session.state.table.name(window.desk.session.state.current) == "p03.jpg"
        assert window.desk.session.state.place == "look"


def test_a_folder_becomes_a_project_and_its_pictures_appear(qtbot: QtBot, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 7)
    with opened() as window:
        window.opening.open(tmp_path / "photos")
        wait(lambda: len(window.desk.session.state.shown) == 7)
        assert window.desk.session.state.place == "library"
        assert (tmp_path / "photos.dinoviz").is_dir()


def test_a_window_is_found_as_it_was_left(qtbot: QtBot, tmp_path: Path) -> None:
    folder = scanned(tmp_path)
    with opened(folder) as window:
        session = window.desk.session
        session.set_query(Query(labels=("cat",)))
        session.set_current(3)
        session.select([1, 3])
        session.go("train")
        turn(1.5)
    with opened() as window:
        session = window.desk.session
        wait(lambda: session.state.project == folder and not session.state.is_reading, 10)
        assert session.state.place == "train"
        assert session.state.current == 3
        assert session.state.selected.tolist() == [1, 3]
        assert session.state.query == Query(labels=("cat",))


def test_a_project_that_was_closed_is_not_opened_again(qtbot: QtBot, tmp_path: Path) -> None:
    with opened(scanned(tmp_path)) as window:
        window.desk.actions.trigger("file.close")
        turn(1.2)
    with opened() as window:
        turn(0.2)
        assert window.desk.session.state.project is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"recent": 3}', '{"recent": [{"folder": 1}], "geometry": 7}', "\0"]
)
def test_a_damaged_memory_is_put_aside_and_the_window_opens(qtbot: QtBot, content: str) -> None:
    memory_file().parent.mkdir(parents=True, exist_ok=True)
    memory_file().write_text(content)
    with opened() as window:
        turn(0.1)
        assert window.desk.session.state.place == "welcome"


def test_preferences_keep_what_they_do_not_know(tmp_path: Path) -> None:
    path = tmp_path / "preferences.toml"
    path.write_text('theme = "dark"\nfuture = 3\n[keys]\n"view.palette" = "Ctrl+P"\n[other]\nx = "y"\n')
    preferences, wrong = read_preferences(path)
    assert (preferences.theme, preferences.keys, wrong) == ("dark", {"view.palette": "Ctrl+P"}, "")
    write_preferences(replace(preferences, theme="light"), path)
    text = path.read_text()
    assert "future" in text
    assert '"x" = "y"' in text
    assert read_preferences(path)[0].theme == "light"


def test_garbled_preferences_are_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "preferences.toml"
    path.write_bytes(b"theme = \xff\xfe")
    preferences, wrong = read_preferences(path)
    assert preferences.theme == "system"
    assert "put aside" in wrong
    assert list(tmp_path.glob("*.bad-*"))


def test_other_keys_hold_at_once_and_are_kept(qtbot: QtBot, tmp_path: Path) -> None:
    with opened(scanned(tmp_path)) as window:
        actions = window.desk.actions
        assert actions.conflict("view.palette", "Ctrl+Z") == "edit.undo"
        assert actions.conflict("view.palette", "Ctrl+Alt+P") is None
        window.set_preferences(replace(window.preferences, keys={"view.palette": "Ctrl+Alt+P"}))
        assert actions.qaction("view.palette").shortcut() == QKeySequence("Ctrl+Alt+P")
    assert "Ctrl+Alt+P" in preferences_file().read_text()


def test_a_fault_of_ours_is_said_and_written_and_the_window_goes_on(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    crash_log.install(lambda text, hint: said.append((text, hint)))
    problem = ZeroDivisionError("x")
    sys.excepthook(type(problem), problem, None)
    assert "went wrong" in said[0][0]
    assert "ZeroDivisionError" in next(crash_log.folder().glob("fault-*.txt")).read_text()
    capsys.readouterr()


def test_a_crash_is_found_at_the_next_start_and_a_kill_is_not_a_crash(qtbot: QtBot) -> None:
    crash_log.folder().mkdir(parents=True)
    (crash_log.folder() / "running-999999.txt").write_text("Fatal Python error: Segmentation fault")
    (crash_log.folder() / "running-999998.txt").write_text("")
    said = []
    with opened() as window:
        window.desk.session.noticed.connect(said.append)
        turn(0.2)
    assert [path.name[:6] for path in crash_log.folder().iterdir()] == ["crash-"]


def test_light_and_dark_change_places_within_a_third_of_a_second(qtbot: QtBot, tmp_path: Path) -> None:
    with opened(scanned(tmp_path)) as window:
        turn(0.3)
        begun = time.monotonic()
        theme.use("dark")
        QApplication.processEvents()
        took = time.monotonic() - begun
        theme.use("light")
        assert took < 1.0  # a third on a quiet machine
        assert window.isVisible()


def test_all_recent_projects_are_remembered_once(qtbot: QtBot, tmp_path: Path) -> None:
    folder = scanned(tmp_path)
    for _ in range(2):
        with opened(folder):
            turn(1.0)
    kept = json.loads(memory_file().read_text())
    assert [row["folder"] for row in kept["recent"]] == [str(folder)]
    assert kept["recent"][0]["pictures"] == 12


def test_a_fault_in_another_thread_is_said_in_the_one_that_paints(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    said: list[tuple[str, threading.Thread]] = []
    with opened() as window:
        crash_log.install(window.went_wrong.emit)
        window.desk.session.noticed.connect(lambda notice: said.append((notice.text, threading.current_thread())))
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
        wait(lambda: said, 5)
    assert "went wrong" in said[0][0]
    assert said[0][1] is threading.main_thread()
    capsys.readouterr()


def test_a_report_that_another_window_took_first_is_left_to_it(qtbot: QtBot) -> None:
    crash_log.folder().mkdir(parents=True)
    (crash_log.folder() / "running-999997.txt").symlink_to("gone")  # is listed, and cannot be opened
    (crash_log.folder() / "running-999999.txt").write_text("Fatal Python error")
    assert len(crash_log.left_behind()) == 1


def test_old_logs_and_reports_are_cleared_away_at_the_start(qtbot: QtBot) -> None:
    for where in (crash_log.folder(), log_folder()):
        where.mkdir(parents=True)
        for i in range(crash_log.MOST_KEPT + 5):
            (where / f"{i:03}.txt").write_text("x")
            os.utime(where / f"{i:03}.txt", (1000 + i, 1000 + i))
        (where / f"running-{os.getpid()}.txt").write_text("")
    with opened():
        wait(lambda: not (log_folder() / "004.txt").exists(), 5)
    for where in (crash_log.folder(), log_folder()):
        assert sorted(path.name for path in where.iterdir())[0] == "005.txt"
        assert len(list(where.iterdir())) == crash_log.MOST_KEPT + 1


def test_that_nothing_can_be_remembered_is_said_once(qtbot: QtBot) -> None:
    with opened() as window:
        said: list[str] = []
        window.desk.session.noticed.connect(lambda notice: said.append(notice.text))
        folder = memory_file().parent
        window.remember()
        wait(folder.is_dir, 5)
        aside = folder.rename(folder.with_name("aside"))
        folder.write_text("a file in the place of the folder")
        for _ in range(3):
            window.remember()
            turn(0.1)
        assert len(said) == 1
        assert "cannot be remembered" in said[0]
        folder.unlink()
        aside.rename(folder)
        window.remember()
        turn(0.1)
        folder.rename(aside)
        folder.write_text("again")
        window.remember()
        turn(0.1)
        assert len(said) == 2


def test_dialogs_are_gone_after_they_are_closed(qtbot: QtBot, tmp_path: Path) -> None:
    folder = scanned(tmp_path)
    with_features(folder)
    with opened(folder) as window:
        for name in ("view.keys", "view.preferences", "export.embeddings"):
            window.desk.actions.trigger(name)
            shown = [dialog for dialog in window.findChildren(QDialog) if dialog.isVisible()]
            assert len(shown) == 1, name
            shown[0].accept()
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
            assert not [dialog for dialog in window.findChildren(QDialog) if type(dialog) is type(shown[0])], name


@pytest.mark.qt_log_ignore("systemTrayWindowChanged", extend=True)  # there is no tray without a screen
def test_the_window_has_one_icon_in_the_tray_however_many_jobs_end(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QSystemTrayIcon, "isSystemTrayAvailable", staticmethod(lambda: True))
    monkeypatch.setattr(QApplication, "activeWindow", staticmethod(lambda: None))
    with opened() as window:
        for number in range(3):
            job = Job(id=number, title="Map", argv=("map",), state="done", started=1.0, ended=2.0 + LONG_S)
            tell_end(window, job)
        assert len(window.findChildren(QSystemTrayIcon)) == 1


def test_a_vision_service_that_starts_anew_leaves_the_gpu_to_the_job_that_works(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened() as window:
        asked: list[object] = []
        vision = window.desk.vision
        monkeypatch.setattr(vision, "ask", lambda question, *_: asked.append(question))
        window.desk.session.set_job(Job(id=900, title="Embed", argv=("embed", "x"), state="running", started=1.0))
        for state in ("starting", "ready", "starting", "ready"):
            vision._set_state(state)
            turn(0.02)
        assert asked == [Release(), Release()]


def test_training_that_waits_is_asked_about_before_the_window_closes(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stand_in(tmp_path)))
    with opened() as window:
        jobs = window.desk.jobs
        first, second = (jobs.start(["train", str(tmp_path / name)], name) for name in ("first", "second"))
        with pressing("Cancel", "Close without it", "Cancel", "Close without it", "Stop it") as asked:
            assert not window.close()
            assert "second" in asked[0]
            assert not window.close()
            assert "first" in asked[2]
            assert [jobs.job(number).state for number in (first, second)] == ["running", "waiting"]
            assert window.isVisible()
            assert window.close()
        assert [jobs.job(number).is_over for number in (first, second)] == [True, True]
        assert [(tmp_path / name).exists() for name in ("first", "second")] == [True, False]


def test_a_window_that_closes_is_hidden_before_it_waits(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as window:
        seen: list[bool] = []
        end = window.end
        monkeypatch.setattr(window, "end", lambda: (seen.append(window.isVisible()), end()))
        window.close()
        assert seen == [False]


DRIVEN = """
import sys
from pathlib import Path
from PySide6.QtCore import QTimer
from dinoviz import __main__
from dinoviz.window import window as module
from tests.dinoviz.windows import pressing

class Driven(module.Window):
    def __init__(self, *args, **named):
        super().__init__(*args, **named)
        self.train = QTimer(self, interval=50)
        self.train.timeout.connect(self.go_on)
        self.train.start()
        self.number = None

    def go_on(self):
        jobs, project = self.desk.jobs, Path(sys.argv[1])
        if self.number is None and self.is_ready and len(self.desk.session.state.table):
            argv = ["train", str(project), "--epochs", "40", "--device", "cpu", "--workers", "0", "--batch", "8"]
            self.number = jobs.start(argv, "Train")
        elif self.number and jobs.job(self.number).measured is not None:
            self.train.stop()
            print(jobs._processes[self.number].pid)
            with pressing("Keep it running"):
                self.close()

module.Window = Driven
sys.exit(__main__._run([Path(sys.argv[1])], wants_sample=False))
"""


def test_training_that_was_let_go_on_goes_on_after_the_whole_window_has_closed(qtbot: QtBot, tmp_path: Path) -> None:
    folder = scanned(tmp_path, 24)
    command = [sys.executable, "-c", DRIVEN, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    training = psutil.Process(int(done.stdout))
    events = folder / "runs" / "0001" / "events.jsonl"
    size = events.stat().st_size
    limit = time.monotonic() + 30
    while events.stat().st_size <= size and time.monotonic() < limit:
        time.sleep(0.05)
    assert events.stat().st_size > size
    with opened(folder) as window:
        wait(lambda: any(job.state == "running" and job.progress.done for job in window.desk.session.state.jobs))
        (job,) = window.desk.session.state.jobs
        assert job.title.startswith("Run 1: ") and window.jobs_bar._stop.isVisible()
        done_before = job.progress.done
        wait(lambda: window.desk.jobs.job(job.id).progress.done > done_before)
        window.jobs_bar._stop.click()
        assert window.desk.jobs.job(job.id).state == "stopping"
        wait(lambda: window.desk.jobs.job(job.id).state == "stopped")
    while training.is_running() and training.status() != psutil.STATUS_ZOMBIE and time.monotonic() < limit:
        time.sleep(0.05)
    assert list((folder / "runs" / "0001" / "checkpoints").iterdir())
