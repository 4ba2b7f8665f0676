"""What Look asks, and what it does not ask again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dinoviz.choices import LookChoices
from dinoviz.looking import Looks, MatchesSeen, PatchesSeen, lattice_of, question_of, read_answer, side_of
from engine import questions as q
from engine.protocol import Refused
from engine.seeing.grid import Grid

MODEL = q.Model(model="runs/0001", sha256="0", width=192, depth=6, heads=3, registers=0, patch=8)
LATTICE = q.Lattice(rows=2, cols=3, patch=8, resized=(16, 24), picture=(40, 60))
PICTURE = Path("a.jpg")


class Service:
    """Answers at once, from files; what was asked stands in ``asked``."""

    def __init__(self, folder, models=(MODEL,)):
        self._folder, self._models, self.asked = folder, models, []

    def ask(self, question, slot, then, refused=None):
        self.asked.append(question)
        match question:
            case q.Status():
                then(q.State(device="cpu", models=tuple(self._models), pictures=0, kept_bytes=0, room_bytes=1))
            case q.Load(model="broken"):
                refused(Refused(id=1, message="It is broken.", hint="Choose another."))
            case q.Load(model=name):
                then(replace(MODEL, model=name))
            case q.Forget():
                then(q.Done())
            case q.Attention():
                path = self._folder / f"{len(self.asked)}.npy"
                np.save(path, np.full((3, 2, 3), len(self.asked), np.float32))
                then(q.Maps(path=str(path), lattice=LATTICE, layer=5, heads=(0, 1, 2)))


def attention(**changes):
    return q.Attention(picture=PICTURE, model=MODEL.model, side=240, **changes)


@pytest.fixture
def service(tmp_path):
    return Service(tmp_path)


def test_what_was_answered_is_not_asked_again_unless_the_file_changed(service):
    stamps = {PICTURE: 1}
    looks = Looks(service, stamps.get)
    seen = []
    for _ in range(3):
        looks.ask(attention(), "look", seen.append)
    assert seen[0] is seen[1] is seen[2]
    assert [type(question) for question in service.asked] == [q.Status, q.Attention]
    stamps[PICTURE] = 2
    looks.ask(attention(), "look", seen.append)
    assert seen[3] is not seen[0]
    looks.ask(attention(query=(0, 1)), "look", seen.append)
    assert len([question for question in service.asked if isinstance(question, q.Attention)]) == 3


def test_network_is_loaded_once_and_again_after_the_service_began_anew(service):
    looks = Looks(service, lambda _path: 0)
    told = []
    for _ in range(2):
        looks.with_model("other", told.append)
    assert [type(question) for question in service.asked] == [q.Status, q.Load]
    assert [model.model for model in told] == ["other", "other"]
    looks.forget_models()
    looks.with_model("other", told.append)
    assert [type(question) for question in service.asked][2:] == [q.Status, q.Load]


def test_network_that_cannot_be_loaded_is_told(service):
    told = []
    Looks(service, lambda _path: 0).with_model("broken", lambda _model: None, told.append)
    assert told[0].message == "It is broken."


def test_oldest_networks_make_room_for_a_further_one_but_not_the_first(tmp_path):
    service = Service(tmp_path, [replace(MODEL, model=f"m{i}") for i in range(6)])
    Looks(service, lambda _path: 0).with_model("new", lambda _model: None)
    assert [question.model for question in service.asked if isinstance(question, q.Forget)] == ["m1"]


def test_network_that_a_new_process_does_not_hold_is_loaded_and_the_question_asked_again(tmp_path):
    class Anew(Service):
        def ask(self, question, slot, then, refused=None):
            n_loads = sum(isinstance(asked, q.Load) for asked in self.asked)
            if isinstance(question, q.Attention) and n_loads == 1:
                self._models = ()
                refused(Refused(id=1, message="The model 'other' is not loaded.", problem="NotLoaded"))
            else:
                super().ask(question, slot, then, refused)

    service, seen, told = Anew(tmp_path, ()), [], []
    Looks(service, lambda _path: 0).ask(replace(attention(), model="other"), "look", seen.append, told.append)
    assert [type(question) for question in service.asked] == [q.Status, q.Load, q.Status, q.Load, q.Attention]
    assert len(seen) == 1
    assert not told


def test_answer_whose_file_is_gone_is_told(tmp_path):
    class Forgetful(Service):
        def ask(self, question, slot, then, refused=None):
            if isinstance(question, q.Attention):
                then(q.Maps(path=str(tmp_path / "gone.npy"), lattice=LATTICE, layer=5, heads=(0,)))
            else:
                super().ask(question, slot, then, refused)

    told = []
    Looks(Forgetful(tmp_path), lambda _path: 0).ask(attention(), "look", lambda _seen: None, told.append)
    assert "could not be read" in told[0].message


def test_answers_of_every_kind_become_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    one = q.OfOne(picture="a.jpg", path=str(tmp_path / "a.npy"), lattice=LATTICE)
    likeness = read_answer(q.Likenesses(pictures=(one, one)))
    assert isinstance(likeness, PatchesSeen)
    assert len(likeness.arrays) == 2
    matched = read_answer(q.Matched(path=one.path, lattice=LATTICE, other=LATTICE, mutual=4, fit=2))
    assert isinstance(matched, MatchesSeen)
    assert matched.mutual == 4
    with pytest.raises(TypeError, match="Done"):
        read_answer(q.Done())


@pytest.mark.parametrize(("patch", "side"), [(8, 240), (14, 420), (16, 480), (0, 480)])
def test_side_fits_the_patches_of_the_network_unless_one_is_chosen(patch, side):
    model = replace(MODEL, patch=patch)
    assert side_of(LookChoices(), model) == side
    assert side_of(LookChoices(side=640), model) == 640


@pytest.mark.parametrize(
    ("choices", "patch", "wanted"),
    [
        (LookChoices(), None, attention()),
        (LookChoices(shows="mask", layer=2), None, attention(layer=2)),
        (LookChoices(layer=99), None, attention(layer=5)),
        (LookChoices(is_rollout=True), None, attention(layer="rollout")),
        (LookChoices(query="patch"), (1, 2), attention(query=(1, 2))),
        (LookChoices(query="patch"), None, attention()),
        (LookChoices(), (1, 2), attention()),
        (LookChoices(shows="likeness"), None, None),
        (LookChoices(shows="matches"), None, None),
        (LookChoices(shows="picture"), None, None),
        (LookChoices(shows="likeness"), (1, 2), q.Likeness(picture=PICTURE, model="runs/0001", side=240, patch=(1, 2))),
    ],
)
def test_question_follows_from_what_is_chosen(choices, patch, wanted):
    assert question_of(choices, MODEL, PICTURE, patch=patch) == wanted


def test_others_are_asked_for_only_together():
    others = (Path("b.jpg"), Path("c.jpg"))
    alone = question_of(LookChoices(shows="colours"), MODEL, PICTURE, others=others)
    together = question_of(LookChoices(shows="colours", is_together=True), MODEL, PICTURE, others=others)
    assert (alone.together, together.together) == ((), others)
    matched = question_of(LookChoices(shows="matches"), MODEL, PICTURE, others=others)
    assert matched.other == Path("b.jpg")


def test_choices_from_an_edited_file_ask_nothing_that_is_refused():
    choices = LookChoices(shows="colours", style="unknown", foreground="red", is_flipped=True)
    question = question_of(choices, MODEL, PICTURE)
    assert (question.style, question.foreground) == ("dinov2", "auto")


@pytest.mark.parametrize(("size", "patch", "side"), [((123, 151), 8, 61), ((40, 900), 14, 56), ((900, 40), 16, 480)])
def test_patches_lie_as_the_engine_will_say(size, patch, side):
    grid, lattice = Grid.of(size, patch=patch, side=side), lattice_of(size, patch, side)
    assert (lattice.rows, lattice.cols, lattice.resized) == (grid.rows, grid.cols, grid.resized)
    assert lattice.picture == size
