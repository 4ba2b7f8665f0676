"""Rates and times left follow the work, with a clock that the test turns."""

from engine.protocol import Progress
from engine.terminal import time_in_words
from engine.timing import Pace


def paced(seconds: list[float], counts: list[int], total: int) -> list[Progress]:
    told: list[Progress] = []
    times = iter(seconds)
    pace = Pace("work", total, "things", told.append, clock=lambda: next(times))
    for count in counts:
        pace.reached(count)
    return told


def test_rate_and_time_left_are_those_of_steady_work():
    told = paced([0, 10, 20], [100, 200], 1000)
    assert told[-1].rate == 10
    assert told[-1].eta_s == 80


def test_the_rate_follows_a_machine_that_slows_down():
    told = paced([0, 1, 100, 200, 300], [1000, 1100, 1200, 1300], 10_000)
    assert told[-1].rate == 1


def test_quick_steps_are_not_all_told_but_the_last_is():
    told = paced([0, 1, 1.01, 1.02, 1.03], [1, 2, 3, 4], 4)
    assert [message.done for message in told] == [1, 4]


def test_nothing_done_has_no_rate():
    (told,) = paced([0, 5], [0], 10)
    assert (told.rate, told.eta_s) == (None, None)


def test_times_read_as_people_say_them():
    assert [time_in_words(s) for s in (41.6, 60, 200, 7500)] == ["42 s", "1 min 00 s", "3 min 20 s", "2 h 05 min"]
