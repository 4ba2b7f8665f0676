import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from dinoviz.choices import Choices, LookChoices, restored
from dinoviz.jobs import Job, ended
from dinoviz.query import Query
from dinoviz.session import MOST_REMEMBERED, Session
from engine.errors import BadInput
from engine.marks import digest_of
from engine.project import Project
from engine.protocol import Failed, Finished, Noticed, Progress
from tests.dinoviz.projects import scanned, with_features


@pytest.fixture
def session(tmp_path: Path) -> Session:
    made = Session()
    made.open(scanned(tmp_path, broken=1))
    return made


class Later:
    """Runs work when it is told to, as threads do in their own time; of one slot only the newest is answered."""

    def __init__(self) -> None:
        self.waiting: list[tuple] = []
        self.newest: dict[str, object] = {}

    def __call__(self, slot, work, then, failed=None) -> None:
        asked = (slot, work, then, failed)
        self.waiting.append(asked)
        self.newest[slot] = asked

    def do(self, slot: str) -> None:
        """Do the oldest piece of work of a slot."""
        asked = next(one for one in self.waiting if one[0] == slot)
        self.waiting.remove(asked)
        result, problem = self.work(asked)
        if slot and self.newest[slot] is not asked:
            return
        if problem is None:
            asked[2](result)
        elif asked[3]:
            asked[3](problem)
        else:
            raise problem

    @staticmethod
    def work(asked: tuple) -> tuple:
        try:
            return asked[1](), None
        except Exception as problem:  # noqa: BLE001 - as the threads do
            return None, problem

    def do_all(self) -> None:
        while self.waiting:
            self.do(self.waiting[0][0])


@pytest.fixture
def later() -> Later:
    return Later()


def opened(project: Path, later: Later, memory: dict | None = None) -> Session:
    session = Session(later)
    session.open(project, memory)
    later.do_all()
    return session


def refuse(_self: Project, _change: object) -> None:
    raise BadInput("The disk is read-only.", "Choose another place.")


def marks_on_disk(session: Session) -> str:
    with Project.at(session.state.project) as project:
        return digest_of(project.marks())


def test_an_opened_project_shows_its_readable_pictures(session: Session) -> None:
    assert len(session.state.table) == 13
    assert len(session.state.shown) == 12
    assert session.state.place == "library"


def test_a_project_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    session, said = Session(), []
    session.noticed.connect(lambda notice: said.append(notice))
    session.open(tmp_path / "nothing.dinoviz")
    assert session.state.project is None
    assert "There is no project" in said[0].text


def test_only_what_moved_is_told(session: Session) -> None:
    told: list[frozenset[str]] = []
    session.changed.connect(told.append)
    session.set_current(3)
    session.set_current(3)
    session.select([])
    assert told == [frozenset({"current"})]


def test_an_unknown_picture_can_neither_be_current_nor_selected(session: Session) -> None:
    session.set_current(999)
    session.select([999, 1])
    assert session.state.current is None
    assert session.state.selected.tolist() == [1]


def test_selections_combine_as_asked(session: Session) -> None:
    session.select([5, 1, 3])
    session.select([1, 2], "add")
    assert session.state.selected.tolist() == [1, 2, 3, 5]
    session.select([3], "subtract")
    session.select([5, 6], "toggle")
    assert session.state.selected.tolist() == [1, 2, 6]
    assert session.state.is_selected(6)
    assert not session.state.is_selected(5)


def test_steps_stay_within_what_is_shown(session: Session) -> None:
    session.step(1)
    assert session.state.current == session.state.shown[0]
    session.step(-1)
    assert session.state.current == session.state.shown[0]
    session.step(100)
    assert session.state.current == session.state.shown[-1]


def test_everything_said_of_pictures_is_written_and_undone(session: Session) -> None:
    before = marks_on_disk(session)
    session.rate([1, 2], 4)
    session.tag([1, 2, 3], "boat")
    session.label([1], "fish")
    session.hide([2])
    session.select([1, 4])
    session.save_selection("mine")
    session.judge("duplicates", "1-2", "different")
    assert session.state.table.label_of(1) == "fish"
    assert 2 not in session.state.shown
    with Project.at(session.state.project) as project:
        assert project.labels()[1] == "fish"
        assert 2 not in [picture.id for picture in project.pictures(readable=True)]
    after = marks_on_disk(session)
    assert after == digest_of(session.state.marks) != before
    for _ in range(6):
        session.undo()
    assert marks_on_disk(session) == digest_of(session.state.marks) == before
    assert session.state.table.label_of(1) == "cat"
    assert not session.state.undo_text
    for _ in range(6):
        session.redo()
    assert marks_on_disk(session) == after
    assert session.state.table.label_of(1) == "fish"


def test_what_changes_nothing_is_no_action(session: Session) -> None:
    session.rate([1], 0)
    session.untag([1], "nothing")
    session.restore([1])
    assert not session.state.undo_text


def test_a_new_action_after_undo_forgets_what_was_undone(session: Session) -> None:
    session.rate([1], 3)
    session.undo()
    session.rate([1], 5)
    session.redo()
    assert session.state.marks.ratings == {1: 5}


def test_a_gesture_of_selecting_can_be_undone_and_a_click_cannot(session: Session) -> None:
    session.select([1])
    session.select_with_tool([2, 3], "replace", "Lasso")
    session.undo()
    assert session.state.selected.tolist() == [1]
    session.redo()
    assert session.state.selected.tolist() == [2, 3]


def test_a_write_that_fails_is_said_and_taken_back(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    session.noticed.connect(said.append)
    monkeypatch.setattr(Project, "write_marks", refuse)
    session.rate([1], 5)
    assert said[0].text == "The disk is read-only."
    assert session.state.marks.ratings == {}
    assert not session.state.undo_text


def test_marks_are_there_again_when_the_project_is_opened_again(session: Session) -> None:
    session.label([3], "fish")
    session.tag([3], "x")
    again = Session()
    again.open(session.state.project)
    assert again.state.table.label_of(3) == "fish"
    assert again.state.marks.tags_of(3) == ("x",)


def test_refreshing_keeps_what_was_said_and_selected(session: Session) -> None:
    session.select([1, 2])
    session.label([1], "fish")
    session.refresh()
    assert session.state.selected.tolist() == [1, 2]
    assert session.state.table.label_of(1) == "fish"


def test_a_project_is_found_as_it_was_left(session: Session) -> None:
    session.set_query(Query(labels=("cat",), sort="size", descending=True))
    session.set_current(3)
    session.select([1, 3])
    session.go("look")
    session.choose(look=LookChoices(keep=0.3, heads=(1, 2)))
    memory = json.loads(json.dumps(session.memory()))
    again = Session()
    again.open(session.state.project, memory)
    assert again.memory() == session.memory()
    assert again.state.shown.tolist() == session.state.shown.tolist()


@pytest.mark.parametrize(
    "kept",
    [{}, {"place": 3, "query": 7, "selected": "x", "choices": [], "set": "a", "model": None, "current": "b"},
     {"query": {"labels": "none", "nothing": 1, "descending": 1}, "choices": {"look": {"keep": "all", "layer": 2}}}],
)  # fmt: skip
def test_a_memory_that_makes_no_sense_is_left_out(tmp_path: Path, kept: dict) -> None:
    session = Session()
    session.open(scanned(tmp_path), kept)
    assert session.state.query == Query()
    assert session.state.choices.look.keep == LookChoices().keep


@pytest.mark.parametrize(
    "kept",
    [
        {"selected": [2**70], "current": 2**70},
        {"query": {"folders": [1, {}], "clusters": ["a", 2**70], "among": ["a"]}},
        {"query": {"among": 3, "like": "x", "sort": "similarity"}},
        {"query": {"like": 2**70, "sort": "similarity"}},
    ],
)
def test_a_memory_with_impossible_pictures_opens_all_of_them(tmp_path: Path, kept: dict) -> None:
    session = Session()
    folder = scanned(tmp_path)
    with_features(folder)
    session.open(folder, kept)
    assert len(session.state.shown) == len(session.state.table) == 12
    assert not session.state.is_reading


def test_a_huge_selection_is_not_remembered(session: Session) -> None:
    many = np.arange(1, MOST_REMEMBERED + 2)
    session._set(selected=many[1:])
    assert session.memory()["selected"] == many[1:].tolist()
    session._set(selected=many)
    assert session.memory()["selected"] == []


def test_a_filter_to_some_pictures_is_remembered_and_a_huge_one_is_not(session: Session) -> None:
    session.set_query(Query(among=(1, 3)))
    again = Session()
    again.open(session.state.project, json.loads(json.dumps(session.memory())))
    assert again.state.shown.tolist() == session.state.shown.tolist() == [1, 3]
    session.set_query(Query(among=tuple(range(MOST_REMEMBERED + 1))))
    assert session.memory()["query"]["among"] is None


def test_a_large_project_is_shown_although_a_scan_tells_of_new_pictures_all_the_time(
    tmp_path: Path, later: Later
) -> None:
    folder = scanned(tmp_path)
    session = Session(later)
    session.open(folder, {"current": 3, "selected": [1, 2]})
    for _ in range(3):
        session.refresh()
    with Project.at(folder) as project:
        project.name_run(project.new_run("x"), "made while it was read")
    later.do("project")
    assert len(session.state.table) == 12
    assert (session.state.current, session.state.selected.tolist()) == (3, [1, 2])
    with Project.at(folder) as project:
        project.new_run("told of after the first reading")
    later.do("project")
    assert len(session.state.runs) == 2
    assert not any(slot == "project" for slot, *_ in later.waiting)


def test_how_a_project_was_left_belongs_to_its_own_opening(tmp_path: Path, later: Later) -> None:
    first, second = scanned(tmp_path / "a"), scanned(tmp_path / "b")
    session = Session(later)
    session.open(first, {"current": 3})
    session.open(second)
    later.do_all()
    assert session.state.project == second
    assert session.state.current is None


def test_an_answer_of_the_project_before_is_not_shown_in_the_next(tmp_path: Path, later: Later) -> None:
    first, second = scanned(tmp_path / "a"), scanned(tmp_path / "b", 4)
    session = Session(later)
    session.open(first)
    later.do("project")
    session.open(second)
    later.do("query")
    assert session.state.shown.tolist() == []
    later.do_all()
    assert len(session.state.shown) == 4


def test_features_that_were_deleted_by_hand_are_said_and_the_pictures_stay(tmp_path: Path) -> None:
    folder = scanned(tmp_path)
    with_features(folder)
    session, said = Session(), []
    session.open(folder)
    session.noticed.connect(said.append)
    shutil.rmtree(folder / "sets")
    session.set_query(Query(sort="similarity", like=4))
    assert len(session.state.shown) == 12
    assert "features" in said[0].text


def test_a_damaged_project_is_said_and_closed(tmp_path: Path) -> None:
    folder = scanned(tmp_path, 400)
    catalogue = folder / "project.sqlite"
    database = sqlite3.connect(catalogue)
    database.execute("PRAGMA journal_mode = DELETE")
    database.close()
    size = catalogue.stat().st_size
    with catalogue.open("r+b") as file:
        file.seek(4096)
        file.write(b"\x5a" * (size - 4096))
    session, said = Session(), []
    session.noticed.connect(said.append)
    session.open(folder)
    assert session.state.project is None
    assert not session.state.is_reading
    assert str(folder) in said[0].text


def test_a_write_that_fails_harms_no_other_project(
    tmp_path: Path, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(scanned(tmp_path / "a"), later)
    said = []
    session.noticed.connect(said.append)
    second = scanned(tmp_path / "b")
    with Project.at(second) as project:
        project.write_marks(project.marks().change("rating", {5: 4}))
    session.rate([5], 3)
    monkeypatch.setattr(Project, "write_marks", refuse)
    session.open(second)
    later.do("project")
    later.do("")
    assert session.state.marks.ratings == {5: 4}
    assert said[0].text == "The disk is read-only."


def test_after_a_write_that_fails_what_is_shown_is_what_is_kept(
    tmp_path: Path, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(scanned(tmp_path), later)
    session.rate([7], 3)
    session.rate([7], 5)
    with monkeypatch.context() as patched:
        patched.setattr(Project, "write_marks", refuse)
        later.do("")
    session.label([7], "fish")
    later.do_all()
    assert session.state.marks.ratings == {7: 5}
    assert session.state.table.label_of(7) == "fish"
    assert marks_on_disk(session) == digest_of(session.state.marks)


def test_what_another_window_said_is_shown_after_a_refresh_and_not_undone(session: Session) -> None:
    other, said = Session(), []
    other.open(session.state.project)
    session.noticed.connect(said.append)
    session.rate([1], 5)
    other.refresh()
    other.rate([1], 2)
    other.label([2], "fish")
    session.refresh()
    assert session.state.marks.ratings == {1: 2}
    assert session.state.table.label_of(2) == "fish"
    assert "another window" in said[0].text
    session.undo()
    assert other.state.marks.ratings == {1: 2}
    assert marks_on_disk(session) == digest_of(other.state.marks)


def test_a_refresh_forgets_nothing_that_is_said_while_it_reads(tmp_path: Path, later: Later) -> None:
    session = opened(scanned(tmp_path), later)
    session.refresh()
    session.rate([1], 5)
    later.do("project")
    assert session.state.marks.ratings == {1: 5}
    session.refresh()
    later.do("project")
    assert session.state.marks.ratings == {1: 5}
    later.do_all()
    assert marks_on_disk(session) == digest_of(session.state.marks)
    assert session.state.undo_text


def test_a_project_that_is_opened_again_at_once_has_what_was_just_said(tmp_path: Path, later: Later) -> None:
    session = opened(scanned(tmp_path), later)
    session.rate([1], 5)
    session.open(session.state.project)
    later.do("project")
    later.do_all()
    assert session.state.marks.ratings == {1: 5}


def test_some_choices_of_a_view_are_set_and_the_others_stay(session: Session) -> None:
    session.set_choices("look", keep=0.3)
    session.set_choices("look", layer=2)
    assert session.state.choices.look == LookChoices(keep=0.3, layer=2)


def test_choices_survive_json_one_by_one() -> None:
    assert restored(Choices, {"look": {"layer": 3, "unknown": 1}}).look.layer == 3
    assert restored(Choices, None) == Choices()


def test_pictures_are_sorted_by_likeness_to_one_of_them(tmp_path: Path) -> None:
    folder = scanned(tmp_path)
    with_features(folder)
    session = Session()
    session.open(folder)
    session.set_query(Query(sort="similarity", like=4))
    assert session.state.shown[0] == 4
    vectors = np.array(np.load(folder / "sets" / "0001" / "vectors.npy"))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [p.id for p in Project.at(folder).pictures()]
    nearest = np.array(ids)[np.argsort(-(unit @ unit[ids.index(4)]))]
    assert session.state.shown.tolist() == nearest.tolist()


def test_a_job_follows_its_messages() -> None:
    job = Job(id=1, title="Scan", argv=("scan", "my photos"))
    assert job.command == "engine scan 'my photos'"
    job = job.heard(Progress(what="checking", done=3, total=6))
    assert job.share == 0.5
    assert job.heard(Noticed(level="warning", text="x")).notices[0].text == "x"
    assert job.heard(Finished(exit_code=4, outcome={"found": 3})).state == "partial"
    assert job.heard(Finished(stopped=True)).state == "stopped"
    assert job.heard(Failed(message="No.", hint="Do.", exit_code=3)).error == "No."


def test_a_process_that_ends_without_a_last_word_is_a_failure_with_the_end_of_its_log() -> None:
    job = Job(id=1, title="Train", argv=("train",), state="running")
    crashed = ended(job, exit_code=-9, has_crashed=True, last_words="out of memory")
    assert crashed.state == "failed"
    assert "out of memory" in crashed.hint
    done = job.heard(Finished())
    assert ended(done, exit_code=1, has_crashed=True, last_words="") == done
