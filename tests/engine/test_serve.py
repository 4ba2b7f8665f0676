"""A real service in a process of its own, asked over pipes as the window asks it; and the loop with a small service."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.channel import MOST_BYTES_OF_A_LINE, Channel
from engine.errors import BadInput, OutOfMemory
from engine.images import open_rgb
from engine.models.weights import load_backbone
from engine.project import Project
from engine.protocol import Answer, Ask, Failed, Refused, Superseded, decode, encode
from engine.questions import VISION, Done, Ping
from engine.seeing.attention import attention_maps
from engine.serve.answers import AnswerFiles
from engine.serve.loop import Outdated, serve
from tests.asking import ANYTHING, QUESTIONS, QUICK_S, Asker
from tests.makers import photo, write_photos

REFUSALS = ("BadRecipe", "BadInput", "NotLoaded", "OutOfMemory")
SIDE = 48
SLOW_SIDE = 240
"""At which the bundled backbone, with patches of 8 px, takes longer than a line takes to be read."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    write_photos(folder, 6)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xffnothing")
    return folder


@pytest.fixture(scope="module")
def service(photos, tmp_path_factory):
    """One service for all tests that leave it as it was."""
    place = tmp_path_factory.mktemp("service")
    with Asker("vision", "--model", "bundled", "--cache", str(place / "answers"), log=place / "log") as asker:
        yield asker


def test_what_is_answered_over_the_pipe_is_what_the_direct_function_says(service, photos):
    answer = service.answer("attention", picture=photos / "p00.jpg", side=SIDE, layer=2, query=[1, 3])
    direct = attention_maps(load_backbone("bundled"), open_rgb(photos / "p00.jpg"), side=SIDE, layer=2, query=(1, 3))
    np.testing.assert_allclose(np.load(answer.path), direct.maps_HRC, rtol=1e-4, atol=1e-8)
    assert answer.lattice.resized == direct.grid.resized


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("attention", {"picture": "p00.jpg", "layer": 99}, "no layer 99"),
        ("attention", {"picture": "p00.jpg", "side": -1}, "side"),
        ("attention", {"picture": "p00.jpg", "query": [999, 999]}, "no patch"),
        ("attention", {"picture": "p00.jpg", "side": 8192}, "patches"),
        ("attention", {"picture": "gone.jpg"}, "gone.jpg"),
        ("attention", {"picture": "broken.jpg"}, "broken.jpg"),
        ("attention", {"picture": "."}, "not a regular file"),
        ("mask", {"picture": "p00.jpg", "keep": 2}, "keep"),
        ("mask", {"picture": "p00.jpg", "keep": float("nan")}, "keep"),
        ("colours", {"picture": "p00.jpg", "together": ["p01.jpg"] * 64}, "together"),
        ("likeness", {"picture": "p00.jpg"}, "patch"),
        ("load", {"model": "no such model"}, "no such model"),
        ("load", {"model": "\ud800"}, "no model"),
        ("sing", {}, "no question"),
    ],
)
def test_a_bad_question_is_refused_in_words_and_the_next_is_answered(service, photos, kind, fields, said):
    if "picture" in fields:
        fields = fields | {"picture": str(photos / fields["picture"])}
    refused = service.told(kind, **({"side": SIDE} if kind in ("attention", "mask") else {}) | fields)
    assert isinstance(refused, Refused)
    assert said in refused.message
    assert refused.problem in REFUSALS
    assert service.answer("ping") == Done()


def test_a_hundred_megabytes_in_one_line_are_refused(service):
    before = psutil.Process(service.process.pid).memory_info().rss
    for _ in range(100):
        service.write(b"[" * MOST_BYTES_OF_A_LINE)
    service.write(b"\n")
    refused = service.hear()
    assert (refused.id, refused.problem) == (None, "BadRecipe")
    assert service.answer("ping") == Done()
    assert psutil.Process(service.process.pid).memory_info().rss - before < 50 << 20


SAFE_QUESTIONS = QUESTIONS.filter(lambda question: "model" not in question or question["kind"] != "load")
NEARLY_RIGHT = st.fixed_dictionaries(
    {"kind": st.sampled_from(["attention", "mask", "likeness", "where"])},
    optional={
        "side": st.integers(-1, 60),
        "layer": st.integers(-8, 8) | st.just("rollout"),
        "query": st.just("cls") | st.tuples(st.integers(-1, 9), st.integers(-1, 9)),
        "patch": st.tuples(st.integers(0, 9), st.integers(0, 9)),
        "heads": st.lists(st.integers(0, 3), max_size=4),
        "keep": st.floats(),
        "of": st.integers(-1, 3) | st.sampled_from(["mean", "union"]),
        "y": st.integers(0, 100),
        "x": st.integers(0, 100),
    },
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    question=ANYTHING | SAFE_QUESTIONS | NEARLY_RIGHT,
    number=ANYTHING | st.just(3),
    name=st.sampled_from(["p00", "p01"]),
)
def test_no_line_ends_a_service(service, photos, question, number, name):
    if isinstance(question, dict) and question.get("kind") in VISION and "picture" not in question:
        question = {**question, "picture": str(photos / f"{name}.jpg")}
        question.setdefault("side", SIDE)
    service.write(json.dumps({"kind": "ask", "id": number, "question": question}).encode() + b"\n")
    own = service.ask("ping", slot="own")
    while (message := service.hear()) != Answer(id=own, answer=Done()):
        assert isinstance(message, Answer | Refused)
        assert not isinstance(message, Refused) or message.problem in REFUSALS, message


def test_a_newer_question_takes_the_place_of_those_that_wait(service, photos):
    asked = [service.ask("attention", picture=photos / f"p0{i}.jpg", side=SLOW_SIDE) for i in range(5)]
    heard = {}
    while asked[-1] not in heard:
        message = service.hear()
        heard[message.id] = type(message)
    assert heard[asked[-1]] is Answer
    assert [heard[number] for number in asked[1:-1]] == [Superseded] * 3
    assert sorted(heard) == asked


def test_stop_ends_it_normally_with_a_last_word_and_without_its_files(photos, tmp_path):
    with Asker("vision", "--model", "bundled", "--cache", str(tmp_path)) as asker:
        answer = asker.answer("attention", picture=photos / "p00.jpg", side=SIDE)
        assert Path(answer.path).is_file()
        assert asker.stop() == 0
    assert list(tmp_path.iterdir()) == []


def test_paths_are_relative_to_the_pictures_of_the_project_and_answers_lie_in_its_cache(photos):
    folder = photos.with_name("p.dinoviz")
    with Project.at(folder, pictures=photos):
        pass
    with Asker("vision", "--model", "bundled", "--project", str(folder)) as asker:
        answer = asker.answer("attention", picture="p01.jpg", side=SIDE)
        assert Path(answer.path).parents[1] == folder / "cache" / "answers"


def test_a_closed_pipe_ends_it_within_a_second(photos, tmp_path):
    with Asker("vision", "--model", "bundled", "--cache", str(tmp_path)) as asker:
        asker.answer("attention", picture=photos / "p00.jpg", side=SIDE)
        assert asker.seconds_to_end() < 1 + lag()
        assert asker.process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_ends_it_even_in_the_middle_of_a_question(photos, tmp_path):
    Image.fromarray(photo(9, 1400, 1400)).save(tmp_path / "large.jpg")
    with Asker("vision", "--model", "bundled", "--cache", str(tmp_path / "answers")) as asker:
        asker.answer("ping")
        asker.ask("attention", picture=tmp_path / "large.jpg", side=960)  # 14,400 patches: many seconds
        time.sleep(0.3)
        assert asker.seconds_to_end() < 1.5 + lag()
        assert asker.process.returncode == 0
    assert list((tmp_path / "answers").iterdir()) == []


PARENT = """
import subprocess, sys, time
command = [sys.executable, "-m", "engine", "serve", "vision", "--model", "bundled", "--cache", sys.argv[1]]
child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
child.stdin.write(b'{"kind": "ask", "id": 1, "question": {"kind": "ping"}}\\n')
child.stdin.flush()
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def test_a_parent_killed_the_hard_way_leaves_no_orphan(tmp_path):
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        service = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        parent.wait()
        until = time.monotonic() + 2 + lag()
        while is_running(service) and time.monotonic() < until:
            time.sleep(0.02)
        assert not is_running(service)


def is_running(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def lag():
    """How long a process that does nothing takes to begin and end now, on a machine that does other things beside."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import numpy"], check=True)
    return 2 * (time.perf_counter() - begun)


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_its_exit_code(tmp_path, number, code):
    with Asker("vision", "--model", "bundled", "--cache", str(tmp_path)) as asker:
        asker.answer("ping")
        asker.process.send_signal(number)
        assert asker.process.wait(QUICK_S) == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "no-such-model"), "no model 'no-such-model'"),
        (("--model", "bundled", "--project", "no-such.dinoviz"), "no project"),
        (("--model", "bundled", "--cache", "/dev/null/x"), "cannot be written"),
    ],
)
def test_what_it_cannot_begin_with_is_its_last_word(tmp_path, arguments, said):
    with Asker("vision", "--cache", str(tmp_path), *arguments, log=tmp_path / "log") as asker:
        failed = asker.hear()
        assert isinstance(failed, Failed)
        assert said in failed.message
        assert asker.process.wait(QUICK_S) == failed.exit_code == 3
    assert said in (tmp_path / "log").read_text()
    assert not Path("no-such.dinoviz").exists()


@dataclass
class Fake:
    """A service whose answers are given beforehand, values or exceptions to raise; the last one ends the channel."""

    answers: list
    channel: Channel | None = None
    rooms_made: int = 0
    is_broken: bool = False

    def answer(self, question):
        answer = self.answers.pop(0)
        if not self.answers:
            self.channel.end()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def make_room(self):
        self.rooms_made += 1

    def check(self):
        if self.is_broken:
            raise RuntimeError("the device is lost")


@dataclass(frozen=True)
class Number:
    value: float


def replies_of(service):
    """Ask as many questions as a service has answers, and return what went up."""
    source, down = os.pipe()
    up, sink = os.pipe()
    service.channel = Channel(source, sink, VISION)
    for number in range(len(service.answers)):
        os.write(down, encode(Ask(id=number, question=Ping(), slot=str(number))).encode() + b"\n")
    try:
        serve(service, service.channel)
    finally:
        os.close(down)
        service.channel._reader.join(10)
        os.close(sink)
        with os.fdopen(up) as sent:
            lines = sent.read().splitlines()
        os.close(source)
    return [decode(line) for line in lines]


def test_whatever_a_question_raises_the_next_one_is_answered(capsys):
    given_up, bug, files, full, nan, fine = replies_of(
        Fake([Outdated(), KeyError("x"), BadInput("No.", "Yes."), OSError(28, "full"), Number(float("nan")), Done()])
    )
    assert given_up == Superseded(id=0)
    assert (bug.id, bug.problem) == (1, "Bug")
    assert "KeyError: 'x'" in bug.message
    assert files == Refused(id=2, message="No.", hint="Yes.", problem="BadInput")
    assert full.problem == "DiskFull"
    assert (nan.id, nan.problem) == (4, "Bug")
    assert fine == Answer(id=5, answer=Done())
    assert "Traceback" in capsys.readouterr().err


def test_room_is_made_where_the_memory_ran_out_and_not_where_a_question_was_refused_before():
    service = Fake([MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemory("Large.")])
    assert [refused.problem for refused in replies_of(service)] == ["OutOfMemory"] * 3
    assert service.rooms_made == 2


def test_a_service_beyond_repair_says_so_by_ending():
    with pytest.raises(RuntimeError, match="device is lost"):
        replies_of(Fake([KeyError("x"), Done()], is_broken=True))


def test_old_files_of_answers_make_room_and_the_newest_stays(tmp_path):
    with AnswerFiles(tmp_path, most_files=3) as files:
        paths = [Path(files.write(np.arange(i))) for i in range(10)]
        assert [path.exists() for path in paths] == [False] * 7 + [True] * 3
        assert len(list(files.folder.iterdir())) == 3
        np.testing.assert_array_equal(np.load(paths[-1]), np.arange(9))
    with AnswerFiles(tmp_path, most_bytes=1000) as files:
        paths = [Path(files.write(np.zeros(2000, np.uint8))) for _ in range(3)]
        assert [path.exists() for path in paths] == [False, False, True]
    assert list(tmp_path.iterdir()) == []


def test_files_of_services_that_were_killed_are_removed_by_the_next(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead = tmp_path / f"{int(done.stdout)}-0123abcd"
    others = [tmp_path / f"{os.getpid()}-0123abcd", tmp_path / "1234-notes", tmp_path / "photos"]
    for folder in (dead, *others):
        folder.mkdir()
    with AnswerFiles(tmp_path):
        assert not dead.exists()
        assert all(folder.exists() for folder in others)


def test_a_cache_that_is_deleted_meanwhile_is_made_again(tmp_path):
    with AnswerFiles(tmp_path) as files:
        files.remove()
        assert Path(files.write(np.zeros(3))).is_file()
