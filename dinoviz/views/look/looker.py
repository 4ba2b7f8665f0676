"""What is looked at: the picture, the patch, the second picture or network; what is asked of them, what was answered.

It draws nothing. Whoever shows it hears ``changed`` when there is something else to draw, and reads it from here.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PySide6.QtCore import QObject, QTimer, Signal

from dinoviz.choices import LookChoices
from dinoviz.desk import Desk
from dinoviz.looking import (
    AttentionSeen,
    Looks,
    Patch,
    PatchesSeen,
    Seen,
    lattice_of,
    patch_of,
    question_of,
    side_of,
)
from dinoviz.model_names import model_text
from dinoviz.widgets.picture.large import LargePictures
from dinoviz.words import tr
from engine import questions as q
from engine.protocol import Refused

AHEAD_MS = 150
"""Rest after an answer, before the neighbours are asked for: not while keys are held down."""
HOVER_MS = 15
"""Between two questions about the patch under the mouse; answers take about as long."""
MOST_GALLERY = 24
"""Pictures below that are not selected but lie next to the current one."""


class Looker(QObject):
    """Asks about what the session says is looked at.

    Signals:
        changed: there is something else to draw.
        waits: what is drawn is out of date, and its answer is on its way.
        other_waits: the same of the second network.

    Args:
        desk: what every view works with.
        large: reads the pictures that come next.
        parent: it ends with it.
    """

    changed = Signal()
    waits = Signal()
    other_waits = Signal()

    def __init__(self, desk: Desk, large: LargePictures, parent: QObject) -> None:
        super().__init__(parent)
        self._desk, self._session, self._large = desk, desk.session, large
        self._stamps: dict[Path, object] = {}
        self.looks = Looks(desk.vision, lambda path: self._stamps.get(path))
        self.picture: int | None = None
        self._project: Path | None = None
        self.model: q.Model | None = None
        self.wanted: q.OfPicture | None = None
        self.seen: Seen | None = None
        self.other_seen: AttentionSeen | PatchesSeen | None = None
        self.problem = ""
        self.other_problem = ""
        self.pinned: Patch | None = None
        self.hovered: Patch | None = None
        self._source: int | None = None
        self._partner: int | None = None
        self._asked_model = ""
        self._side = 0
        self._seen_of: tuple[int | None, str] = (None, "")
        self._gallery_key: tuple[object, ...] = (None, None, None, None)
        self._gallery: list[int] = []
        self._place: int | None = None
        self._ahead = QTimer(self, singleShot=True, interval=AHEAD_MS)
        self._ahead.timeout.connect(self._look_ahead)
        self._hover = QTimer(self, singleShot=True, interval=HOVER_MS)
        self._hover.timeout.connect(self._look_from_hovered)
        self._hover_is_new = False
        desk.vision.changed.connect(self._service_changed)

    @property
    def choices(self) -> LookChoices:
        """What was chosen."""
        return self._session.state.choices.look

    # What is looked at

    def look_at(self, picture: int) -> bool:
        """Look at a picture; tell whether it is another one than before."""
        project = self._session.state.project
        if project != self._project:
            self._project = project
            self._forget()
        if picture == self.picture:
            return False
        if self._is_compared and self.pinned is not None and picture in self.gallery():
            source = self.picture if self._source is None else self._source
            self._source = None if source == picture else source  # what is like that patch is seen here, too
        else:
            self.pinned = self._source = None
        self.picture, self.hovered, self.problem = picture, None, ""
        return True

    def _forget(self) -> None:
        """Begin with another project: its pictures have the ids, and maybe the paths, of those before."""
        self.picture = self.pinned = self.hovered = self._source = self._partner = None
        self.wanted = self.seen = self.other_seen = None
        self._stamps.clear()
        self.looks.forget()
        self.rest()

    @property
    def is_here(self) -> bool:
        """Whether the picture is one of the project that is open: another may have been opened a moment ago."""
        state = self._session.state
        return self.picture is not None and self._project == state.project and state.table.contains(self.picture)

    @property
    def _is_compared(self) -> bool:
        """Whether one patch is looked for in several pictures."""
        return self.choices.shows == "likeness" and self.choices.is_together

    @property
    def patch(self) -> Patch | None:
        """The patch that looks, or that others are compared with."""
        if self._source is not None and not self._is_compared:
            return None
        return self.pinned or self.hovered

    @property
    def pinned_here(self) -> Patch | None:
        """The patch that was chosen in the picture that is looked at; None where it is of another one."""
        return self.pinned if self._source is None else None

    def hover(self, patch: Patch) -> None:
        """Look from the patch under the mouse, unless one was chosen."""
        if self.pinned is None and patch != self.hovered:
            self.hovered = patch
            self._hover_is_new = True
            if not self._hover.isActive():
                self._look_from_hovered()

    def _look_from_hovered(self) -> None:
        """Look at once, and not again for a moment, then from where the mouse is by then."""
        if self._hover_is_new:
            self._hover_is_new = False
            self._hover.start()
            self.look()

    def pin(self, patch: Patch | None) -> None:
        """Choose a patch, or let it go where it was chosen."""
        self.hovered = patch
        self.pinned = None if patch == self.pinned_here else patch
        self._source = None
        self.look()

    def match_with(self, picture: int) -> None:
        """Choose the picture whose patches are matched."""
        self._partner = picture
        self.look()

    @property
    def partner(self) -> int | None:
        """The picture to be matched with the current one; None where there is no other, or nothing is matched."""
        if self.choices.shows != "matches" or self.picture is None:
            return None
        others = self.gallery()[1:]
        return self._partner if self._partner in others else others[0] if others else None

    @property
    def has_second_network(self) -> bool:
        """Whether another network looks beside."""
        return bool(self.choices.other_model) and self.choices.shows not in ("matches", "picture")

    def gallery(self) -> list[int]:
        """Return the pictures below, the current one first: those selected, or those next to it."""
        state = self._session.state
        key = (self.picture, state.shown, state.selected, state.table)  # values that are replaced, never changed
        if any(new is not old for new, old in zip(key, self._gallery_key, strict=True)):
            # Kept, since to find the current one among a million takes a millisecond.
            self._gallery_key = key
            found = np.flatnonzero(state.shown == self.picture)
            self._place = int(found[0]) if len(found) else None
            self._gallery = [picture for picture in self._found_gallery() if state.table.contains(picture)]
        return self._gallery

    @property
    def place(self) -> int | None:
        """Place of the picture among those shown, from 0; None where it is not among them."""
        self.gallery()
        return self._place

    def _found_gallery(self) -> list[int]:
        state, current = self._session.state, self.picture
        assert current is not None
        selected = [int(picture) for picture in state.selected[: q.MOST_PICTURES] if int(picture) != current]
        if selected:
            return [current, *selected][: q.MOST_PICTURES]
        first = 0 if self._place is None else self._place + 1
        return [current, *(int(picture) for picture in state.shown[first : first + MOST_GALLERY] if picture != current)]

    def lattice(self) -> q.Lattice | None:
        """Return how patches lie on the current picture; None while that is not known."""
        if self.picture is None or self.model is None:
            return None
        table = self._session.state.table
        row = table.row_of(self.picture)
        size = (int(table.heights_N[row]), int(table.widths_N[row]))
        return lattice_of(size, patch_of(self.model), self._side) if min(size) > 0 else None

    def is_seen(self) -> bool:
        """Tell whether ``seen`` is of the picture and kind that are chosen now, if maybe of another layer or patch."""
        kinds = {"attention": "mask", "mask": "attention"}
        shows = self.choices.shows
        return self.seen is not None and self._seen_of in ((self.picture, shows), (self.picture, kinds.get(shows)))

    def stamp(self, picture: int) -> object:
        """Return the state of a picture's file, which changes with it."""
        return self._stamps[self.path(picture)]

    def path(self, picture: int) -> Path:
        """Return the path of a picture as questions name it, and note the state of its file."""
        table = self._session.state.table
        path = Path(table.path(picture))
        row = table.row_of(picture)
        self._stamps[path] = (int(table.mtimes_N[row]), int(table.sizes_N[row]))
        return path

    # Asking

    def look(self) -> None:
        """Ask for what is not known yet; ``changed`` follows in any case."""
        name = self._session.state.model
        if name != self._asked_model:
            self._asked_model, self.problem = name, ""
            if self._desk.vision.state == "failed":  # it may have failed because of the network before
                self._desk.vision.restart()
        if name not in self.looks.models:
            self.waits.emit()
        self.looks.with_model(name, self._look_through, self._refused)
        self.changed.emit()

    def look_again(self) -> None:
        """Ask once more, after something went wrong."""
        self.problem = ""
        self.wanted = None
        if self._desk.vision.state == "failed":
            self._desk.vision.restart()
        self.look()

    def _look_through(self, model: q.Model) -> None:
        if model.model != self._session.state.model or self.picture is None or not self.is_here:
            return
        self._take_model(model)
        question = None if self._lacks_attention(model) else self._question(model, self.picture)
        if question != self.wanted or self.seen is None:
            self.wanted = question
            if question is None:
                self.seen = None
                self.changed.emit()
                return
            if self.looks.kept(question) is None:
                self.waits.emit()
            slot = "look-query" if self.hovered is not None and self.pinned is None else "look"
            self.looks.ask(question, slot, partial(self._answered, question), self._refused)
        else:
            self._ask_other()

    def _take_model(self, model: q.Model) -> None:
        """Look through a network; a patch is one of its lattice and means nothing in another."""
        side = side_of(self.choices, model)
        if self.model is None or (self.model.patch, self._side) != (model.patch, side):
            self.pinned = self.hovered = self._source = None
        self.model, self._side = model, side

    def _question(self, model: q.Model, picture: int) -> q.OfPicture | None:
        choices = self.choices
        others: Sequence[int] = ()
        if choices.shows == "matches":
            others = () if self.partner is None else (self.partner,)
        elif choices.is_together and choices.shows in ("colours", "likeness"):
            others = self.gallery()[1:]
        if self._source is not None and self._is_compared:
            picture, others = self._source, [other for other in self.gallery() if other != self._source]
        paths = tuple(self.path(other) for other in others)
        return question_of(choices, model, self.path(picture), patch=self.patch, others=paths)

    def _lacks_attention(self, model: q.Model) -> bool:
        """Tell whether attention is asked of a network without any, and say so."""
        lacks = model.heads == 0 and self.choices.shows in ("attention", "mask")
        name = model_text(model.model, self._session.state.runs)
        said = tr("'{name}' has no attention, as it is no transformer. Colours, likeness and matches work.", name=name)
        self.problem = said if lacks else "" if self.problem == said else self.problem
        return lacks

    def _answered(self, question: q.OfPicture, seen: Seen) -> None:
        if question != self.wanted:
            return
        self.seen, self.problem = self._in_order(seen), ""
        self._seen_of = (self.picture, self.choices.shows)
        self.changed.emit()
        self._ask_other()
        if self.hovered is None or self.pinned is not None:
            self._ahead.start()

    def _in_order(self, seen: Seen) -> Seen:
        """Return arrays in the order of the pictures below, where the patch is of another than the first."""
        if self._source is None or not self._is_compared or not isinstance(seen, PatchesSeen):
            return seen
        gallery = self.gallery()
        asked = [self._source, *(picture for picture in gallery if picture != self._source)]
        places = [asked.index(picture) for picture in gallery]
        source = gallery.index(self._source) if self._source in gallery else None
        arrays, lattices = (tuple(values[place] for place in places) for values in (seen.arrays, seen.lattices))
        return PatchesSeen(arrays, lattices, source=source)

    def _refused(self, refused: Refused) -> None:
        """Say why nothing is shown."""
        self.seen = None
        self.problem = f"{refused.message} {refused.hint}".strip()
        self.changed.emit()

    # The second network

    def _ask_other(self) -> None:
        """Ask the second network about the same picture."""
        if self.has_second_network:
            self.looks.with_model(self.choices.other_model, self._other_looks, self._other_refused)

    def _other_looks(self, model: q.Model) -> None:
        if self.picture is None or not self.is_here or not self.has_second_network:
            return
        is_foreign = self._source is not None
        patch = self.patch_of(model)
        question = None if is_foreign else question_of(self.choices, model, self.path(self.picture), patch=patch)
        if question is None:
            self._other_answered(None)
            return
        if self.looks.kept(question) is None:
            self.other_waits.emit()
        self.looks.ask(question, "look-other", self._other_answered, self._other_refused)

    def patch_of(self, model: q.Model) -> Patch | None:
        """Return the patch of another network at the place of the one that looks."""
        if self.patch is None or self.model is None:
            return self.patch
        scale = side_of(self.choices, model) / patch_of(model) / (self._side / patch_of(self.model))
        lattice = self.lattice()
        assert lattice is not None
        row, col = (int((place + 0.5) * scale) for place in self.patch)
        return min(row, max(0, int(lattice.rows * scale) - 1)), min(col, max(0, int(lattice.cols * scale) - 1))

    def other_patch(self) -> Patch | None:
        """Return the patch of the second network's lattice."""
        model = self.looks.models.get(self.choices.other_model)
        return self.patch_of(model) if model else None

    def _other_answered(self, seen: Seen | None) -> None:
        self.other_seen = seen if isinstance(seen, AttentionSeen | PatchesSeen) else None
        self.other_problem = ""
        self.changed.emit()

    def _other_refused(self, refused: Refused) -> None:
        self.other_seen = None
        self.other_problem = f"{refused.message} {refused.hint}".strip()
        self.changed.emit()

    # Ahead

    def rest(self) -> None:
        """Ask nothing by itself until it is asked to look again."""
        self._ahead.stop()
        self._hover.stop()

    def _look_ahead(self) -> None:
        """Read the pictures before and after the current one, and ask about them."""
        state, choices = self._session.state, self.choices
        if self.model is None or not self.is_here or self.place is None:
            return
        for name, at in (("next", self.place + 1), ("previous", self.place - 1)):
            if not 0 <= at < len(state.shown):
                continue
            picture = int(state.shown[at])
            path = self.path(picture)
            self._large.ahead(f"look-{name}", state.table.file(picture), self._stamps[path])
            if choices.shows in ("attention", "mask", "colours") and not choices.is_together and not self.problem:
                question = question_of(choices, self.model, path)
                if question is not None:
                    self.looks.ask(question, f"look-{name}", lambda _seen: None)

    def _service_changed(self) -> None:
        if self._desk.vision.state in ("off", "starting"):
            self.looks.forget_models()
        self.changed.emit()
