import os
import signal
import sys
import time
import tracemalloc
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import QCoreApplication, QEvent
from pytestqt.qtbot import QtBot

from dinoviz.background import Background
from dinoviz.engine_process import Jobs, Service, last_lines
from dinoviz.jobs import Job
from dinoviz.session import Session
from engine.protocol import Noticed, Refused
from engine.questions import Attention, Done, Forget, Maps, Ping
from tests.dinoviz.projects import scanned
from tests.dinoviz.windows import stand_in
from tests.makers import write_photos

ENDS_WITHIN_MS = 60_000


def ended(qtbot: QtBot, session: Session, number: int) -> Job:
    def is_over() -> bool:
        return next(job for job in session.state.jobs if job.id == number).is_over

    qtbot.waitUntil(is_over, timeout=ENDS_WITHIN_MS)
    return next(job for job in session.state.jobs if job.id == number)


@pytest.fixture
def session(qtbot: QtBot) -> Session:
    return Session()


@pytest.fixture
def jobs(session: Session) -> Jobs:
    made = Jobs(session)
    yield made
    made.close()
    made.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)  # here, not in the thread that collects it


def test_a_job_of_the_window_is_the_command_of_the_engine(
    qtbot: QtBot, session: Session, jobs: Jobs, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 4)
    then: list[Job] = []
    job = ended(qtbot, session, jobs.start(["scan", str(tmp_path / "photos")], "Scan", then.append))
    assert job.state == "done"
    assert job.outcome["found"] == 4
    assert job.progress.done == job.progress.total == 4
    assert then == [job]
    assert (tmp_path / "photos.dinoviz" / "project.sqlite").exists()


def test_what_cannot_be_done_is_said_in_the_words_of_the_engine(
    qtbot: QtBot, session: Session, jobs: Jobs, tmp_path: Path
) -> None:
    job = ended(qtbot, session, jobs.start(["scan", str(tmp_path / "nothing")], "Scan"))
    assert job.state == "failed"
    assert "There is no folder" in job.error
    assert job.hint


def test_a_command_line_that_is_wrong_is_a_failure_with_its_log(qtbot: QtBot, session: Session, jobs: Jobs) -> None:
    job = ended(qtbot, session, jobs.start(["map", "--nonsense"], "Map"))
    assert job.state == "failed"
    assert "required: project" in Path(job.log).read_text()


def test_one_job_works_at_a_time_and_the_next_one_follows(
    qtbot: QtBot, session: Session, jobs: Jobs, tmp_path: Path
) -> None:
    first = jobs.start(["embed", str(tmp_path / "no")], "First")
    second = jobs.start(["index", str(tmp_path / "no")], "Second")
    assert [job.state for job in session.state.jobs] == ["running", "waiting"]
    jobs.stop(second)
    assert [job.state for job in session.state.jobs] == ["running", "stopped"]
    third = jobs.retry(second)
    assert ended(qtbot, session, first).state == "failed"
    assert ended(qtbot, session, third).state == "failed"


def test_training_stops_when_asked_and_keeps_its_work(
    qtbot: QtBot, session: Session, jobs: Jobs, tmp_path: Path
) -> None:
    folder = scanned(tmp_path, 24)
    session.open(folder)
    argv = ["train", str(folder), "--epochs", "500", "--device", "cpu", "--workers", "0", "--batch", "8"]
    number = jobs.start(argv, "Train")
    qtbot.waitUntil(lambda: jobs.job(number).measured is not None, timeout=ENDS_WITHIN_MS)
    jobs.stop(number)
    assert ended(qtbot, session, number).state == "stopped"
    assert list((folder / "runs" / "0001" / "checkpoints").iterdir())
    assert session.state.runs[0].state == "stopped"


def test_a_job_that_stays_outlives_its_window(qtbot: QtBot, session: Session, jobs: Jobs, tmp_path: Path) -> None:
    folder = scanned(tmp_path, 24)
    argv = ["train", str(folder), "--epochs", "30", "--device", "cpu", "--workers", "0", "--batch", "8"]
    number = jobs.start(argv, "Train")
    qtbot.waitUntil(lambda: jobs.job(number).measured is not None, timeout=ENDS_WITHIN_MS)
    process = jobs._processes[number]
    pid = process.pid
    jobs.stay(number)
    qtbot.wait(200)
    process.close_pipe()
    qtbot.wait(1500)
    assert psutil.pid_exists(pid)
    os.kill(pid, signal.SIGINT)
    ended(qtbot, session, number)
    assert list((folder / "runs" / "0001" / "checkpoints").iterdir())


def test_a_job_without_a_window_ends_and_keeps_its_work(
    qtbot: QtBot, session: Session, jobs: Jobs, tmp_path: Path
) -> None:
    folder = scanned(tmp_path, 24)
    argv = ["train", str(folder), "--epochs", "500", "--device", "cpu", "--workers", "0", "--batch", "8"]
    number = jobs.start(argv, "Train")
    qtbot.waitUntil(lambda: jobs.job(number).measured is not None, timeout=ENDS_WITHIN_MS)
    jobs._processes[number].close_pipe()
    assert ended(qtbot, session, number).state == "stopped"
    assert list((folder / "runs" / "0001" / "checkpoints").iterdir())


@pytest.fixture
def vision(qtbot: QtBot, tmp_path: Path) -> Service:
    write_photos(tmp_path / "photos", 3)
    folder = scanned(tmp_path, 3)
    made = Service("vision", lambda: ["--model", "bundled", "--project", str(folder)])
    yield made
    made.close()


def test_a_service_starts_with_the_first_question_and_answers_the_newest_of_a_slot(
    qtbot: QtBot, vision: Service
) -> None:
    answers: list[object] = []
    for side in (32, 40, 48):
        vision.ask(Attention(picture=Path("cat/p00.jpg"), side=side), "look", answers.append)
    assert vision.state == "starting"
    qtbot.waitUntil(lambda: bool(answers), timeout=ENDS_WITHIN_MS)
    assert vision.state == "ready"
    assert isinstance(answers[0], Maps)
    assert answers[0].lattice.resized[0] == 48
    qtbot.wait(300)
    assert len(answers) == 1


def test_a_question_that_cannot_be_answered_says_why(qtbot: QtBot, vision: Service) -> None:
    refused: list[Refused] = []
    vision.ask(Attention(picture=Path("nothing.jpg")), "look", lambda _answer: None, refused.append)
    qtbot.waitUntil(lambda: bool(refused), timeout=ENDS_WITHIN_MS)
    assert "nothing.jpg" in refused[0].message


def test_a_service_that_was_killed_starts_again_and_answers_what_was_asked(qtbot: QtBot, vision: Service) -> None:
    answers: list[object] = []
    vision.ask(Ping(), "ping", answers.append)
    qtbot.waitUntil(lambda: bool(answers), timeout=ENDS_WITHIN_MS)
    os.kill(vision._process.pid, signal.SIGKILL)
    vision.ask(Ping(), "ping", answers.append)
    qtbot.waitUntil(lambda: len(answers) == 2, timeout=ENDS_WITHIN_MS)
    assert isinstance(answers[1], Done)


def test_a_service_that_cannot_start_says_why(qtbot: QtBot, tmp_path: Path) -> None:
    service = Service("vision", lambda: ["--model", str(tmp_path / "nothing.pth")])
    refused: list[Refused] = []
    service.ask(Forget(model="x"), "x", lambda _answer: None, refused.append)
    qtbot.waitUntil(lambda: bool(refused), timeout=ENDS_WITHIN_MS)
    assert "nothing.pth" in refused[0].message
    assert service.state == "failed"


def test_work_of_one_slot_is_answered_once_by_the_newest(qtbot: QtBot) -> None:
    background, answers = Background(), []
    for i in range(20):
        background.run("slot", lambda i=i: (time.sleep(0.002), i)[1], answers.append)
    qtbot.waitUntil(lambda: answers == [19], timeout=5000)
    background.finish()


def test_what_is_written_is_written_in_order_and_waited_for(qtbot: QtBot) -> None:
    background, written = Background(), []
    for i in range(20):
        background.run("", lambda i=i: written.append(i), lambda _none: None)
    background.finish()
    assert written == list(range(20))


def test_a_fault_in_the_background_comes_back_to_who_asked(qtbot: QtBot) -> None:
    background, faults = Background(), []
    background.run("slot", lambda: 1 / 0, lambda _result: None, faults.append)
    qtbot.waitUntil(lambda: bool(faults), timeout=5000)
    assert isinstance(faults[0], ZeroDivisionError)


def test_notices_of_a_job_are_kept(qtbot: QtBot, session: Session, jobs: Jobs, tmp_path: Path) -> None:
    folder = scanned(tmp_path)
    number = jobs.start(["train", str(folder), "--epochs", "1", "--device", "cpu", "--workers", "0"], "Train")
    job = ended(qtbot, session, number)
    assert job.state == "done", job.error
    assert any(isinstance(told, Noticed) and "Plan for" in told.text for told in job.notices)


def test_a_job_whose_log_cannot_be_written_works_and_the_next_one_follows(
    qtbot: QtBot, session: Session, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("a file in the place of the folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_photos(tmp_path / "photos", 2)
    argv = ["scan", str(tmp_path / "photos")]
    first = jobs.start(["index", str(tmp_path / "no")], "First")
    second = jobs.start(["index", str(tmp_path / "no")], "Second")
    assert ended(qtbot, session, jobs.start(argv, "Scan")).state == "done"
    assert ended(qtbot, session, first).error
    assert ended(qtbot, session, second).error


def test_an_engine_that_cannot_be_started_fails_in_words_and_the_next_job_follows(
    qtbot: QtBot, session: Session, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    numbers = [jobs.start(["embed", "x"], "Embed") for _ in range(2)]
    assert [ended(qtbot, session, number).state for number in numbers] == ["failed", "failed"]
    service = Service("vision", list)
    refused: list[Refused] = []
    service.ask(Ping(), "ping", lambda _answer: None, refused.append)
    qtbot.waitUntil(lambda: bool(refused), timeout=ENDS_WITHIN_MS)
    assert service.state == "failed"


def test_a_service_that_cannot_start_is_started_again_with_other_arguments(qtbot: QtBot, tmp_path: Path) -> None:
    arguments = ["--model", str(tmp_path / "nothing.pth")]
    service = Service("vision", lambda: arguments)
    refused: list[Refused] = []
    service.ask(Ping(), "ping", lambda _answer: None, refused.append)
    qtbot.waitUntil(lambda: bool(refused), timeout=ENDS_WITHIN_MS)
    arguments = ["--model", "bundled"]
    answers: list[object] = []
    service.ask(Ping(), "ping", answers.append)
    qtbot.waitUntil(lambda: bool(answers), timeout=ENDS_WITHIN_MS)
    assert service.state == "ready"
    service.close()


def test_a_service_that_was_closed_does_not_start_again(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stand_in(tmp_path)))
    service = Service("vision", lambda: [str(tmp_path / "told")])
    service.ask(Ping(), "ping", lambda _answer: None)
    service.close()
    refused: list[Refused] = []
    service.ask(Ping(), "ping", lambda _answer: None, refused.append)
    assert refused
    assert service._process is None


def test_nothing_of_the_queue_begins_while_the_window_closes(
    session: Session, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stand_in(tmp_path)))
    then: list[Job] = []
    numbers = [jobs.start(["train", str(tmp_path / name)], name, then.append) for name in ("first", "second")]
    jobs.close()
    assert [jobs.job(number).state for number in numbers][1] == "stopped"
    assert [(tmp_path / name).exists() for name in ("first", "second")] == [True, False]
    assert not jobs._processes
    assert then == []


def test_every_job_is_asked_to_stop_before_one_that_does_not_answer_is_waited_for(
    session: Session, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stand_in(tmp_path)))
    deaf = jobs.start(["deaf"], "Does not answer")
    jobs.start(["scan", str(tmp_path / "told")], "Scan")
    begun = time.monotonic()
    jobs.close(1500)
    assert time.monotonic() - begun < 4.0
    assert "stop" in (tmp_path / "told").read_text()
    assert jobs.job(deaf).is_over


def test_of_a_long_log_only_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with log.open("wb") as file:
        file.truncate(100 << 20)
        file.seek(0, os.SEEK_END)
        file.write("\none\ntwo ü\n".encode())
    tracemalloc.start()
    assert last_lines(log, 2) == "one\ntwo ü"
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert last_lines(tmp_path / "nothing") == ""
