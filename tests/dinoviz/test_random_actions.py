"""Whatever a person does, in whatever order: no fault, no warning of Qt, and undoing all gives the project back."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog

from dinoviz.actions import ACTIONS
from dinoviz.query import Query
from dinoviz.views import VIEWS
from dinoviz.window.window import Window
from engine.marks import digest_of
from engine.project import Project
from tests.dinoviz.projects import scanned, with_features
from tests.dinoviz.windows import opened, turn

SEQUENCES = int(os.environ.get("DINOVIZ_SEQUENCES", "60"))
"""How many; a thousand takes some forty seconds."""

ASKS_THE_PERSON = {
    # These open a dialog of the system or of ours, start a job, or end the session.
    *("file.open", "file.open_project", "file.sample", "file.rescan", "file.close", "file.quit"),
    *("view.keys", "view.preferences", "view.full", "picture.reveal", "picture.copy"),
}
SAFE = [
    row.id
    for row in ACTIONS
    if row.id not in ASKS_THE_PERSON
    and not row.text.endswith("…")
    and row.id.partition(".")[0] in ("edit", "go", "view", "picture", "library", "look", "selection")
    and "reveal" not in row.id
]
IDS = st.lists(st.integers(1, 14), max_size=5)
WORDS = st.sampled_from(["a", "b", "cat", "dog", " x "])
KEYS = st.sampled_from(
    [Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Up, Qt.Key.Key_Home, Qt.Key.Key_End,
     Qt.Key.Key_Escape, Qt.Key.Key_Space, Qt.Key.Key_3, Qt.Key.Key_0, Qt.Key.Key_Plus, Qt.Key.Key_Tab]
)  # fmt: skip
QUERIES = st.builds(
    Query,
    text=st.sampled_from(["", "p0", "zzz"]),
    labels=st.sampled_from([(), ("cat",), ("",)]),
    tags=st.sampled_from([(), ("a",)]),
    rating=st.integers(0, 5),
    problem=st.sampled_from(["readable", "unreadable", "all"]),
    is_hidden=st.booleans(),
    sort=st.sampled_from(["name", "size", "label", "rating", "similarity"]),
    like=st.sampled_from([None, 3]),
    descending=st.booleans(),
)
STEPS = st.one_of(
    st.tuples(st.just("action"), st.sampled_from(SAFE)),
    st.tuples(st.just("go"), st.sampled_from([view.name for view in VIEWS])),
    st.tuples(st.just("key"), KEYS),
    st.tuples(st.just("query"), QUERIES),
    st.tuples(st.just("current"), st.integers(1, 14)),
    st.tuples(st.just("select"), IDS, st.sampled_from(["replace", "add", "subtract", "toggle"])),
    st.tuples(st.just("lasso"), IDS),
    st.tuples(st.just("rate"), IDS, st.integers(0, 5)),
    st.tuples(st.just("label"), IDS, st.one_of(st.none(), WORDS)),
    st.tuples(st.just("tag"), IDS, WORDS),
    st.tuples(st.just("untag"), IDS, WORDS),
    st.tuples(st.just("hide"), IDS),
    st.tuples(st.just("restore"), IDS),
    st.tuples(st.just("keep"), WORDS),
    st.tuples(st.just("judge"), WORDS, st.one_of(st.none(), WORDS)),
)


def do(window: Window, step: tuple) -> None:
    session = window.desk.session
    match step:
        case "action", name:
            window.desk.actions.trigger(name)
        case "go", place:
            session.go(place)
        case "key", key:
            QTest.keyClick(QApplication.focusWidget() or window, key)
        case "query", query:
            session.set_query(query)
        case "current", picture:
            session.set_current(picture)
        case "select", ids, how:
            session.select(ids, how)
        case "lasso", ids:
            session.select_with_tool(ids, "replace", "Lasso")
        case "label", ids, text:
            session.label(ids, text)
        case "keep", name:
            session.save_selection(name)
        case "judge", subject, verdict:
            session.judge("duplicates", subject, verdict)
        case name, ids, value:
            getattr(session, name)(ids, value)
        case name, ids:
            getattr(session, name)(ids)


def marks_of(project: Path) -> str:
    with Project.at(project) as opened_again:
        return digest_of(opened_again.marks())


@pytest.fixture(scope="module")
def window(qapp: QApplication, tmp_path_factory: pytest.TempPathFactory) -> Window:
    folder = scanned(tmp_path_factory.mktemp("random"), 13, broken=1)
    with_features(folder)
    with pytest.MonkeyPatch.context() as patch, opened(folder) as made:
        # The space bar may press a button that asks for a file, which would wait for a person for ever.
        for name in ("getOpenFileName", "getOpenFileNames", "getSaveFileName"):
            patch.setattr(QFileDialog, name, lambda *_args, **_options: ("", ""))
        patch.setattr(QFileDialog, "getExistingDirectory", lambda *_args, **_options: "")
        yield made


@pytest.mark.slow
@settings(
    max_examples=SEQUENCES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, max_size=25))
def test_any_sequence_of_actions_can_be_undone(window: Window, steps: list[tuple]) -> None:
    session = window.desk.session
    before = digest_of(session.state.marks)
    for step in steps:
        do(window, step)
        QApplication.processEvents()
    turn(0.01)
    while session.state.undo_text:
        session.undo()
    assert digest_of(session.state.marks) == before
    window.desk.background.finish()
    QApplication.processEvents()
    assert marks_of(session.state.project) == before
    session.select([])
    session._undone.clear()
