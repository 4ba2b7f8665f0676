import json
from pathlib import Path

import numpy as np
import pytest

from dinoviz.choices import Choices, LookChoices, restored
from dinoviz.jobs import Job, ended
from dinoviz.query import Query
from dinoviz.session import Session
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

    def refuse(_self: Project, _change: object) -> None:
        raise BadInput("The disk is read-only.", "Choose another place.")

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
