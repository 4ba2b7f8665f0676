import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.channel import MOST_BYTES_OF_A_LINE, MOST_WAITING, Channel
from engine.protocol import Answer, Ask, Finished, Refused, Superseded, decode, encode
from engine.questions import VISION, Attention, Done, Forget, Ping
from tests.asking import ANYTHING, QUESTIONS

SOON_S = 10.0


class Ends:
    """Both ends of a channel within this process."""

    def __init__(self, **options):
        self.source, self.down = os.pipe()
        self.up, self.sink = os.pipe()
        self.channel = Channel(self.source, self.sink, VISION, **options)

    def ask(self, *asks, **question):
        for ask in asks:
            os.write(self.down, encode(ask).encode() + b"\n")

    def write(self, data):
        os.write(self.down, data)

    def close_from_above(self):
        os.close(self.down)
        self.down = None

    def heard(self):
        """What was sent up until now."""
        os.set_blocking(self.up, False)
        try:
            return [decode(line) for line in os.read(self.up, 1 << 20).decode().splitlines()]
        except BlockingIOError:
            return []

    def settle(self, n_lines):
        """Wait until the thread has taken that many lines."""
        until = time.monotonic() + SOON_S
        while time.monotonic() < until:
            with self.channel._changed:
                if len(self.channel._waiting) + len(self.channel._replies) >= n_lines:
                    return
            time.sleep(0.002)
        raise AssertionError("the lines were not taken")


@pytest.fixture
def ends():
    made = []

    def make(**options):
        made.append(Ends(**options))
        return made[-1]

    yield make
    for one in made:
        if one.down is not None:
            os.close(one.down)
        one.channel.end()
        one.channel._reader.join(SOON_S)
        assert not one.channel._reader.is_alive()
        for descriptor in (one.source, one.up, one.sink):
            os.close(descriptor)


def ping(number, slot=""):
    return Ask(id=number, question=Ping(), slot=slot)


def test_a_question_comes_down_and_its_answer_goes_up(ends):
    both = ends()
    both.ask(Ask(id=7, question=Attention(picture="a/ü\udce4.jpg", query=(3, 4), layer=2), slot="left"))
    ask = both.channel.next_question(SOON_S)
    assert ask == Ask(id=7, question=Attention(picture=ask.question.picture, query=(3, 4), layer=2), slot="left")
    assert os.fsencode(ask.question.picture) == "a/ü".encode() + b"\xe4.jpg"
    both.channel.send(Answer(id=7, answer=Done()))
    assert both.heard() == [Answer(id=7, answer=Done())]


def test_of_waiting_questions_in_one_slot_the_newest_is_kept_in_the_place_of_the_first(ends):
    both = ends()
    both.ask(ping(1, "left"), ping(2, "right"), ping(3, "left"), ping(4, "left"))
    both.settle(4)
    assert both.channel.next_question(SOON_S).id == 4
    assert both.heard() == [Superseded(id=1), Superseded(id=3)]
    assert both.channel.next_question(SOON_S).id == 2
    assert both.channel.next_question(0) is None


def test_without_slots_each_kind_of_question_is_one(ends):
    both = ends()
    both.ask(ping(1), Ask(id=2, question=Attention(picture="a")), ping(3))
    both.settle(3)
    assert [both.channel.next_question(SOON_S).id for _ in range(2)] == [3, 2]


def test_what_changes_the_service_is_never_superseded(ends):
    both = ends()
    both.ask(*(Ask(id=i, question=Forget(model=str(i)), slot="one") for i in range(5)))
    both.settle(5)
    assert [both.channel.next_question(SOON_S).id for _ in range(5)] == list(range(5))
    assert both.heard() == []


def test_a_question_in_work_is_outdated_once_a_newer_one_waits_in_its_slot(ends):
    both = ends()
    both.ask(ping(1, "left"))
    both.channel.next_question(SOON_S)
    both.ask(ping(2, "right"))
    both.settle(1)
    assert not both.channel.is_outdated()
    both.ask(ping(3, "left"))
    both.settle(2)
    assert both.channel.is_outdated()


def test_no_more_than_a_number_of_questions_wait(ends):
    both = ends()
    both.ask(*(ping(i, str(i)) for i in range(MOST_WAITING + 5)))
    both.settle(MOST_WAITING + 5)
    assert both.channel.next_question(SOON_S).id == 0
    assert [(refused.id, refused.problem) for refused in both.heard()] == [(MOST_WAITING + i, "Busy") for i in range(5)]


def test_stop_ends_it_and_what_waits_is_dropped(ends):
    both = ends()
    both.ask(ping(1))
    both.write(b'{"kind": "stop"}\n')
    both.channel._reader.join(SOON_S)
    assert list(both.channel) == []
    assert both.channel.has_ended


def test_a_closed_pipe_means_stop_and_is_told_to_who_wants_to_know(ends):
    orphaned = threading.Event()
    both = ends(on_orphaned=orphaned.set)
    both.close_from_above()
    assert both.channel.next_question() is None
    assert orphaned.wait(SOON_S)


def test_sending_to_nobody_ends_it(ends):
    both = ends()
    os.close(both.up)
    both.channel.send(Finished())
    assert both.channel.has_ended
    both.up = os.open(os.devnull, os.O_RDONLY)


def test_a_letter_may_be_cut_between_two_reads(ends):
    both = ends()
    line = encode(Ask(id=1, question=Attention(picture="ä"))).encode().replace(rb"\u00e4", "ä".encode()) + b"\n"
    cut = line.index("ä".encode()) + 1
    both.write(line[:cut])
    assert both.channel.next_question(0.05) is None
    both.write(line[cut:])
    assert str(both.channel.next_question(SOON_S).question.picture) == "ä"


def test_a_line_that_is_too_long_is_refused_without_being_kept_and_the_next_is_heard(ends):
    both = ends()

    def flood():
        for _ in range(100):
            both.write(b"x" * MOST_BYTES_OF_A_LINE)
        both.write(b"\n" + encode(ping(1)).encode() + b"\n")

    writer = threading.Thread(target=flood)
    writer.start()
    assert both.channel.next_question(60).id == 1
    writer.join()
    (refused,) = both.heard()
    assert (refused.id, refused.problem) == (None, "BadRecipe")


def test_blank_lines_are_nothing(ends):
    both = ends()
    both.write(b"\n  \n\r\n")
    both.ask(ping(1))
    assert both.channel.next_question(SOON_S).id == 1
    assert both.heard() == []


@pytest.mark.parametrize(
    ("line", "number", "said"),
    [
        (b"{", None, "not JSON"),
        (b"\xff\xfe", None, "not JSON"),
        (b"[" * 100_000, None, "not JSON"),
        (b"9" * 10_000, None, "not JSON"),
        (b"3", None, "neither a question"),
        (b'{"kind": ["ask"]}', None, "neither a question"),
        (b'{"kind": "ask", "id": true, "question": {"kind": "ping"}}', None, "neither a question"),
        (b'{"kind": "ask", "id": 1.5, "question": {"kind": "ping"}}', None, "neither a question"),
        (b'{"kind": "ask", "id": 1}', 1, "no question here"),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "dance"}}', 1, "no question 'dance' here"),
        (b'{"kind": "ask", "id": 1, "question": {"kind": {}}}', 1, "no question here"),
        (b'{"kind": "ask", "id": 1, "slot": 3, "question": {"kind": "ping"}}', 1, "a slot, which is text"),
        (b'{"kind": "ask", "id": 1, "speed": 3, "question": {"kind": "ping"}}', 1, "a slot, which is text"),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "ping", "loud": 1}}', 1, "loud: Unexpected"),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "attention"}}', 1, "picture: "),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "attention", "picture": 3}}', 1, "path of a file"),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "attention", "picture": ""}}', 1, "path of a file"),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "attention", "picture": "\\u0000"}}', 1, "path of a file"),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "attention", "picture": "a", "side": "9"}}', 1, "side: "),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "attention", "picture": "a", "side": 1e9}}', 1, "side: "),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "attention", "picture": "a", "side": true}}', 1, "side: "),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "attention", "picture": "a", "query": [1]}}', 1, "query"),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "mask", "picture": "a", "keep": NaN}}', 1, "keep: "),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "mask", "picture": "a", "keep": 1e999}}', 1, "keep: "),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "mask", "picture": "a", "keep": 0}}', 1, "keep: "),
        (b'{"kind": "ask", "id": 1, "question": {"kind": "mask", "picture": "a", "of": -1}}', 1, "of"),
    ],
)
def test_a_line_that_is_no_question_is_refused_in_words(ends, line, number, said):
    both = ends()
    both.write(line + b"\n")
    both.settle(1)
    assert both.channel.next_question(0) is None
    (refused,) = both.heard()
    assert refused.id == number
    assert said in refused.message
    assert len(refused.message) < 500


LINES = st.binary(max_size=200).map(lambda data: data.replace(b"\n", b"")) | st.builds(
    lambda number, question: json.dumps({"kind": "ask", "id": number, "question": question}).encode(),
    ANYTHING,
    ANYTHING | QUESTIONS,
)


@settings(deadline=None, max_examples=300)
@given(LINES)
def test_any_line_is_a_question_of_a_known_class_or_a_refusal(line):
    from engine.protocol import decode_request

    request = decode_request(line, VISION)
    assert isinstance(request, Refused) or type(request.question) in VISION.values()
    assert decode(encode(request)) == request if isinstance(request, Refused) else encode(request)


CHILD = """
import multiprocessing, os, subprocess, sys, time
from engine.channel import Channel
from engine.protocol import Finished
from engine.questions import VISION

def work(n):
    print("a stray line of a worker", flush=True)
    return n + 1

channel = Channel.of_this_process(VISION)
print("a stray line")
os.write(1, b"a stray line of a library\\n")
subprocess.run(["echo", "a stray line of a program"])
assert sys.stdin.read() == ""
time.sleep(0.2)  # the thread waits in its read by now
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(work, [1, 2]) == [2, 3]
worker = os.fork()
if worker == 0:
    time.sleep(60)  # a worker that lives on must not hold the pipe open
    os._exit(0)
print("worker", worker, flush=True)
for ask in channel:
    pass
channel.send(Finished())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_stray_prints_go_to_the_log_and_forked_workers_neither_hang_nor_hold_the_pipe(tmp_path):
    log = tmp_path / "log"
    with (
        log.open("wb") as written,
        subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=written
        ) as child,
    ):
        child.stdin.write(b'{"kind": "stop"}\n')
        child.stdin.flush()
        assert child.stdout.read() == encode(Finished()).encode() + b"\n"
        assert child.wait(SOON_S) == 0
    written_there = log.read_text()
    assert written_there.count("a stray line") == 5  # two workers' ends of lines may come after both lines
    (worker,) = (int(line.split()[1]) for line in written_there.splitlines() if line.startswith("worker "))
    os.kill(worker, signal.SIGKILL)  # and it is alive still, or this raises


def test_a_process_begun_without_streams_ends_at_once():
    code = (
        "import os; from engine.channel import Channel; channel = Channel.of_this_process({}); assert not list(channel)"
    )
    shell = f"exec {sys.executable} -c '{code}' 0<&- 1>&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], timeout=60, check=False).returncode == 0
