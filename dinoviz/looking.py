"""What is asked of the vision service for Look, and the arrays it answered, read once and kept.

A question is a value; what it was answered with is kept under it and the state of the picture's file. So going back to
a picture, a layer or a head asks nothing, and the pictures before and after the current one can be asked for ahead.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dinoviz.choices import LookChoices
from engine import questions as q
from engine.arrays import read_npy
from engine.errors import NotLoaded
from engine.protocol import Refused

ROOM_BYTES = 96 << 20
"""Arrays kept; some 3,000 pictures with 3 heads of 1,000 patches, or 300 with 12 heads of 2,400."""
PATCHES_A_SIDE = 30
"""Patches along the shorter side where the side fits the model: 480 px of a ViT-S/16, as visualize_attention.py."""
MOST_MODELS = 6
"""Networks that the service holds before the oldest is dropped for another; it refuses a ninth."""
STRIDE = 32
"""Side of a place of a residual network's last map, which stands for its patches; as ``engine.models.patch_of``."""
USUAL_SIDE = 480
"""Shorter side at which a residual network sees a picture unless another is chosen."""
SIDES = (224, 320, 480, 640, 800, 1024)
"""Sides that can be chosen, px; beyond, a picture takes many seconds without a GPU."""

LONGEST = 4
"""The longer side is seen as at most this many times the shorter; as ``engine.seeing.grid.LONGEST``."""
Style = Literal["dinov2", "notebook", "dinov3"]
STYLES: dict[str, Style] = {"dinov2": "dinov2", "notebook": "notebook", "dinov3": "dinov3"}
"""As in ``questions.Colours``, by what is remembered of them."""

Patch = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class AttentionSeen:
    """Attention of all heads of a layer: float32 (heads, rows, cols)."""

    maps_HRC: NDArray[np.float32]
    lattice: q.Lattice
    layer: q.Layer


@dataclass(frozen=True, slots=True, eq=False)
class PatchesSeen:
    """An array of every asked picture, the first being the large one: colours (rows, cols, 3) or cosines (rows, cols).

    ``rule`` says how the foreground of colours was found; ``source`` which picture the patch of a likeness is of, None
    where that is not among them.
    """

    arrays: tuple[NDArray, ...]
    lattices: tuple[q.Lattice, ...]
    rule: str = ""
    source: int | None = 0


@dataclass(frozen=True, slots=True, eq=False)
class MatchesSeen:
    """Matches between two pictures: float32 (matches, 5); see ``questions.Matched``."""

    table_M5: NDArray[np.float32]
    lattice: q.Lattice
    other: q.Lattice
    mutual: int


Seen = AttentionSeen | PatchesSeen | MatchesSeen
WhenRefused = Callable[[Refused], object]


class Service(Protocol):
    """A resident process that answers, as ``desk.vision``."""

    def ask(
        self, question: object, slot: str, then: Callable[[object], object], refused: WhenRefused | None = None
    ) -> object:
        """Ask; of a slot, only the newest question is answered."""


def read_answer(answer: object) -> Seen:
    """Return the arrays of an answer.

    Raises:
        OSError: they are gone, as those of an answer long ago.
    """
    match answer:
        case q.Maps(path=path, lattice=lattice, layer=layer):
            return AttentionSeen(read_npy(path), lattice, layer)
        case q.Coloured(pictures=pictures, rule=rule):
            maps = tuple(read_npy(one.path) for one in pictures)
            return PatchesSeen(maps, tuple(one.lattice for one in pictures), rule)
        case q.Likenesses(pictures=pictures):
            return PatchesSeen(tuple(read_npy(one.path) for one in pictures), tuple(one.lattice for one in pictures))
        case q.Matched(path=path, lattice=lattice, other=other, mutual=mutual):
            return MatchesSeen(read_npy(path), lattice, other, mutual)
    raise TypeError(f"{type(answer).__name__} is no answer with arrays")


class Looks:
    """Asks a vision service, and keeps what it answered.

    Args:
        service: is asked.
        stamp: tells the state of a picture's file, so that one that changed is seen anew.
    """

    def __init__(self, service: Service, stamp: Callable[[Path], object]) -> None:
        self._service, self._stamp = service, stamp
        self._kept: OrderedDict[object, Seen] = OrderedDict()
        self._kept_bytes = 0
        self.models: dict[str, q.Model] = {}

    def kept(self, question: q.OfPicture) -> Seen | None:
        """Return what a question was answered with, if that is known."""
        key = self._key(question)
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def ask(
        self, question: q.OfPicture, slot: str, then: Callable[[Seen], object], refused: WhenRefused | None = None
    ) -> None:
        """Ask about a picture, with a model that is loaded first where it is not; at once where the answer is kept."""
        known = self.kept(question)
        if known is not None:
            then(known)
            return

        def heard(answer: object) -> None:
            try:
                seen = read_answer(answer)
            except OSError as problem:
                if refused:
                    refused(Refused(id=None, message=f"The answer could not be read: {problem}.", hint="Try again."))
                return
            self._keep(self._key(question), seen)
            then(seen)

        def ask_once_more(told: Refused) -> None:
            if told.problem == NotLoaded.__name__:  # it was started anew since: after a crash, or for another project
                self.models.pop(question.model, None)
                self.with_model(question.model, lambda _model: ask(refused), refused)
            elif refused:
                refused(told)

        def ask(when_refused: WhenRefused | None) -> None:
            self._service.ask(question, slot, heard, when_refused)

        self.with_model(question.model, lambda _model: ask(ask_once_more), refused)

    def with_model(self, name: str, then: Callable[[q.Model], object], refused: WhenRefused | None = None) -> None:
        """Call ``then`` with what is to be known of a model, after it is loaded."""
        if name in self.models:
            then(self.models[name])
            return

        def loaded(answer: object) -> None:
            assert isinstance(answer, q.Model)
            self.models[name] = answer
            then(answer)

        def told(answer: object) -> None:
            assert isinstance(answer, q.State)
            there = {model.model: model for model in answer.models}
            if name in there:  # the service began with it: to load it again would read the file twice
                loaded(there[name])
            else:
                self._make_room(list(there))
                self._service.ask(q.Load(model=name), f"load {name}", loaded, refused)

        self._service.ask(q.Status(), f"look for {name}", told, refused)

    def _make_room(self, there: list[str]) -> None:
        """Drop the networks loaded first where another would be too many; that the service began with stays."""
        for old in there[1 : 2 + len(there) - MOST_MODELS]:
            self._service.ask(q.Forget(model=old), f"forget {old}", lambda _done: None)
            self.models.pop(old, None)

    def forget_models(self) -> None:
        """Load models again when they are asked for, as after the service was started anew."""
        self.models.clear()

    def forget(self) -> None:
        """Forget all that was answered."""
        self._kept.clear()
        self._kept_bytes = 0

    def _key(self, question: q.OfPicture) -> object:
        return question, self._stamp(question.picture)

    def _keep(self, key: object, seen: Seen) -> None:
        if key not in self._kept:
            self._kept[key] = seen
            self._kept_bytes += _size(seen)
        while self._kept_bytes > ROOM_BYTES and len(self._kept) > 1:
            self._kept_bytes -= _size(self._kept.popitem(last=False)[1])


def _size(seen: Seen) -> int:
    values = (getattr(seen, part.name) for part in fields(seen))
    flat = (array for value in values for array in (value if isinstance(value, tuple) else (value,)))
    return sum(array.nbytes for array in flat if isinstance(array, np.ndarray))


def lattice_of(size: tuple[int, int], patch: int, side: int) -> q.Lattice:
    """Return how patches lie on a picture before anything was answered about it; as ``engine.seeing.grid.Grid.of``.

    Args:
        size: height and width of the upright picture, px.
        patch: side of a patch, px.
        side: shorter side the picture is seen at, px.
    """
    shorter = min(size)
    height, width = (min(side * length // shorter, LONGEST * side) for length in size)
    return q.Lattice(rows=height // patch, cols=width // patch, patch=patch, resized=(height, width), picture=size)


def patch_of(model: q.Model) -> int:
    """Return the side of a patch of a network, px."""
    return model.patch or STRIDE


def side_of(choices: LookChoices, model: q.Model) -> int:
    """Return the shorter side at which a picture is seen: as chosen, or what fits the model's patches."""
    fitting = PATCHES_A_SIDE * model.patch or USUAL_SIDE
    return max(patch_of(model), choices.side or fitting)


def question_of(
    choices: LookChoices,
    model: q.Model,
    picture: Path,
    *,
    patch: Patch | None = None,
    others: tuple[Path, ...] = (),
) -> q.OfPicture | None:
    """Return what has to be asked to show what was chosen; None where nothing has to, or a patch or picture is missing.

    Args:
        choices: of Look.
        model: through which it is seen.
        picture: its path.
        patch: that looks, or that others are compared with.
        others: further pictures: those of the selection, or the one to match.
    """
    name, side, layer = model.model, side_of(choices, model), min(choices.layer, model.depth - 1)
    together = others[: q.MOST_PICTURES - 1] if choices.is_together else ()
    match choices.shows:
        case "attention" | "mask":
            query: q.Token = patch if choices.query == "patch" and patch is not None else "cls"
            seen_in: q.Layer = "rollout" if choices.is_rollout else layer
            return q.Attention(picture=picture, model=name, side=side, layer=seen_in, query=query)
        case "colours":
            is_all = choices.foreground == "off"
            return q.Colours(
                picture=picture,
                model=name,
                side=side,
                layer=layer,
                together=together,
                style=STYLES.get(choices.style, "dinov2"),
                foreground="off" if is_all else "auto",
                is_flipped=choices.is_flipped and not is_all,
            )
        case "likeness" if patch is not None:
            return q.Likeness(picture=picture, model=name, side=side, layer=layer, patch=patch, others=together)
        case "matches" if others:
            other, most, least = others[0], choices.most, choices.least
            return q.Matches(picture=picture, model=name, side=side, layer=layer, other=other, most=most, least=least)
    return None
