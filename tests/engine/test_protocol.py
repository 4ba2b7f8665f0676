"""Messages survive their line of JSON; unknown ones are skipped, not fatal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol import Failed, Finished, Made, Measured, Noticed, Progress, decode, encode

# With surrogates, which stand for the bytes of file names that are no UTF-8.
TEXT = st.text(st.characters(exclude_categories=()), max_size=50)
MESSAGES = st.one_of(
    st.builds(Progress, what=TEXT, done=st.integers(0), total=st.integers(0), unit=TEXT, note=TEXT),
    st.builds(Noticed, level=st.sampled_from(["info", "warning"]), text=TEXT, hint=TEXT),
    st.builds(Made, what=TEXT, path=TEXT),
    st.builds(Finished, exit_code=st.integers(0, 255), stopped=st.booleans()),
    st.builds(Failed, message=TEXT, hint=TEXT, exit_code=st.integers(0, 255)),
    st.builds(
        Measured, step=st.integers(0), values=st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False))
    ),
)


@given(MESSAGES)
def test_a_message_comes_back_from_one_line(message):
    line = encode(message)
    assert "\n" not in line
    assert line.encode()
    assert decode(line) == message


def test_numbers_that_are_not_finite_become_null_so_that_any_reader_can_read_them():
    line = encode(Measured(step=1, values={"loss": float("nan"), "kl": float("inf"), "rank": 2.0}))
    assert json.loads(line)["values"] == {"loss": None, "kl": None, "rank": 2.0}


def test_a_kind_of_a_later_version_is_skipped():
    assert decode('{"kind": "telepathy", "to": "you"}') is None


def test_a_line_that_is_no_message_is_an_error():
    with pytest.raises(ValueError, match="Expecting"):
        decode("loss 3.1")
