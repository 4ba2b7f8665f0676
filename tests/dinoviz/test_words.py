"""Words that people read."""

import pytest

from dinoviz.words import time_roughly


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "a few seconds"),
        (7, "5 seconds"),
        (23, "20 seconds"),
        (54, "50 seconds"),
        (58, "1 minute"),
        (95, "2 minutes"),
        (8 * 60, "8 minutes"),
        (34 * 60 + 51, "35 minutes"),
        (57 * 60, "55 minutes"),
        (58 * 60, "1 hour"),
        (62 * 60, "1 hour"),
        (89 * 60, "1 ½ hours"),
        (2 * 3600 + 300, "2 hours"),
        (11.2 * 3600, "11 hours"),
        (50 * 3600, "2 days"),
    ],
)
def test_what_something_will_take_is_told_no_finer_than_it_is_known(seconds, said):
    assert time_roughly(seconds) == said


def test_more_time_is_never_told_as_less():
    units = {"few": 1, "second": 1, "seconds": 1, "minute": 60, "minutes": 60, "hour": 3600, "hours": 3600}
    units |= {"day": 86400, "days": 86400}
    told = []
    for seconds in range(5, 400_000, 7):
        *number, unit = time_roughly(seconds).replace(" ½", ".5").split()
        told.append(float(number[0]) * units[unit])
    assert told == sorted(told)
