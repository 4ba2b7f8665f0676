"""Copies: groups of pictures that are one and the same, side by side; keep one, leave out the others, or say no."""

from dataclasses import replace

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtWidgets import QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import IconButton, SliderRow, button, clear, label
from dinoviz.desk import Desk
from dinoviz.table import PictureTable
from dinoviz.views.find.lists import KEPT, NOT_COPIES, CopiesRow, Lists, copies_of
from dinoviz.views.find.work_panel import RowWords, WorkPanel, keyed
from dinoviz.watching import watch
from dinoviz.widgets.flow import Flow
from dinoviz.widgets.picture.tile import INSET_PX, LINE_PX, PictureTile, TileLook
from dinoviz.words import counted, tr
from engine.finding.duplicate_files import Duplicates
from engine.quantities import size_in_words

LARGEST_PX, SMALLEST_PX = 400, 150
MOST_TILES = 60
"""Pictures of one group that are drawn; the rest is counted."""
KEYS = 9
"""Pictures that have a key of their own."""
HINT_FROM_PX = 860
"""Room from which on the keys are named beside the buttons."""
LINES = 4
COLUMNS = 4
BELOW_PX = 64
"""Height of the buttons of a picture and of the gaps around it."""
LEAST, STEP = 0.3, 0.005
"""Of the slider of likeness: below lies resemblance, which copies do not have to themselves."""
MORE = 0.8
"""Of the likeness that is in use, the one to look from for more; ``engine.commands.duplicates`` has the figures."""


class DuplicatesPanel(WorkPanel):
    """Groups of copies to work through."""

    def __init__(self, desk: Desk) -> None:
        self._found: Duplicates | None = None
        super().__init__(desk, tr("Groups of copies"))
        self._row: CopiesRow | None = None
        self._drawn: tuple[Duplicates | None, float, PictureTable | None] = (None, 0.0, None)
        self._head = QHBoxLayout()
        self._title = label("", "title")
        self._chips = QHBoxLayout()
        self._chips.setSpacing(theme.SPACE_S)
        self._head.addWidget(self._title)
        self._head.addSpacing(theme.SPACE)
        self._head.addLayout(self._chips)
        self._head.addStretch()
        self._tiles = QWidget()
        self._tiles.setProperty("kind", "plain")
        self._flow = Flow(self._tiles, theme.SPACE)
        self._scroll = QScrollArea()
        self._scroll.setWidget(self._tiles)
        self._scroll.setWidgetResizable(True)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._scroll.viewport().installEventFilter(self)
        self._buttons = QHBoxLayout()
        self._buttons.setSpacing(theme.SPACE)
        self.detail.addLayout(self._head)
        self.detail.addWidget(self._scroll, 1)
        self.detail.addLayout(self._buttons)
        self._accept = self.action_button("find.accept", tr("Keep the framed one"), kind="primary")
        self._hint = label(tr("Keys 1 to 9 keep that one; Shift+click leaves one out or takes it back"), "small")
        self._buttons.addWidget(self._accept)
        self._buttons.addWidget(self.action_button("find.fine", tr("No copies: keep all")))
        self._buttons.addWidget(self.action_button("find.next", tr("Skip"), kind="quiet"))
        self._buttons.addStretch()
        self._buttons.addWidget(self._hint)
        self._hint.hide()
        watch(self, self.session, ("choices.find",), self._filter)

    def heading(self) -> list[QWidget]:
        """Return the slider of likeness."""
        self._slider = SliderRow(
            tr("Likeness from"),
            LEAST,
            1.0,
            STEP,
            "",
            self._choose_likeness,
            tr("Pictures at least this much alike count as copies. 1 is the same; crops and mirror images are less."),
        )
        self._more = button(tr("Look for more"), self._look_for_more, kind="link")
        self._said = label("", "small", wraps=True)
        return [self._slider, self._said, self._more]

    # What there is

    def set_lists(self, lists: Lists | None) -> None:
        """Work through the copies of a set."""
        self._found = lists.duplicates if lists else None
        self._filter()

    def _filter(self) -> None:
        found, likeness = self._found, self.session.state.choices.find.likeness
        if found is None:
            self._drawn = (None, 0.0, None)
            self.desk.background.forget("find.copies")
            self.set_rows([])
            return
        table = self.session.state.table
        likeness = max(likeness, found.threshold)
        self._slider.set_value(max(LEAST, round(likeness / STEP) * STEP))
        before, likeness_before, table_before = self._drawn
        if found is before and table is table_before and likeness == likeness_before:
            return
        self._drawn = (found, likeness, table)
        at_suggested = abs(found.threshold - found.suggested) < STEP
        text = tr("Suggested: {likeness}", likeness=f"{found.suggested:.2f}")
        if not at_suggested:
            text = tr("Looked for from {likeness}", likeness=f"{found.threshold:.2f}")
        self._said.setText(
            tr("{how} · {pictures} compared", how=text, pictures=counted(found.n_pictures, tr("picture")))
        )
        self._more.setText(tr("Look for more, from {likeness}", likeness=f"{self._lower():.2f}"))
        self._more.setVisible(self._lower() > LEAST)

        def show(rows: list[CopiesRow]) -> None:
            self.set_rows(rows)
            if not rows:
                self.say("check-circle", tr("No copies"), tr("No two pictures are this much alike."))

        self.desk.background.run("find.copies", lambda: copies_of(found, likeness, table), show)

    def _choose_likeness(self, likeness: float) -> None:
        self.session.set_choices("find", likeness=round(likeness, 3))

    def _lower(self) -> float:
        return 0.0 if self._found is None else round(MORE * self._found.threshold, 2)

    def _look_for_more(self) -> None:
        state = self.session.state
        if state.project is None or state.set is None:
            return
        argv = ["duplicates", str(state.project), "--set", str(state.set), "--threshold", f"{self._lower():g}"]
        self.desk.jobs.start(argv, tr("Look for copies"))
        self.session.choose(find=replace(state.choices.find, likeness=0.0))

    # What is drawn

    def words(self, row: CopiesRow) -> RowWords:
        """Return how many there are and how alike, and whether labels or splits differ."""
        table = self.session.state.table
        badges = []
        if len(row.splits(table)) > 1:
            badges.append(("warning", "danger"))
        if len(row.labels(table)) > 1:
            badges.append(("tag", "warning"))
        best = row.group.pairs[0]
        alike = tr("the same file") if best.is_exact else tr("likeness {likeness}", likeness=f"{best.likeness:.3f}")
        return RowWords(counted(len(row.pictures), tr("picture")), alike, tuple(badges))

    def show_row(self, row: CopiesRow | None) -> None:
        """Show the pictures of a group side by side."""
        if row is None:
            if self.work.rows:
                self.say(
                    "check-circle",
                    tr("All worked through"),
                    tr("Nothing was deleted: what is left out can be taken back, and Ctrl+Z undoes."),
                )
            return
        if row != self._row:
            self._row = row
            self._build_tiles(row)
        self._draw_head(row)
        self._draw_tiles(row)

    def _draw_head(self, row: CopiesRow) -> None:
        table = self.session.state.table
        alike = tr("Likeness {likeness}", likeness=f"{row.group.likeness:.3f}")
        self._title.setText(tr("The same file") if row.group.pairs[0].is_exact else alike)
        clear(self._chips)
        if len(splits := row.splits(table)) > 1:
            said = tr("Leak: {splits}", splits=" + ".join(splits))
            tip = tr("The same picture is learnt from and tested on: results look better than they are.")
            self._chips.addWidget(label(said, "danger", tip=tip))
        if len(labels := row.labels(table)) > 1:
            said = tr("Labels differ: {labels}", labels=" + ".join(labels))
            tip = tr("One and the same picture cannot be both: one label is wrong.")
            self._chips.addWidget(label(said, "warning", tip=tip))

    def _build_tiles(self, row: CopiesRow) -> None:
        clear(self._flow)
        side = self._side(len(row.pictures))
        for place, picture in enumerate(row.pictures[:MOST_TILES]):
            self._flow.addWidget(_Member(self, place, picture, side))
        hidden = len(row.pictures) - MOST_TILES
        if hidden > 0:
            self._flow.addWidget(label(tr("… and {n} more", n=hidden), "muted"))

    def _side(self, n: int) -> int:
        """Return how large pictures can be so that all of a small group are seen at once."""
        room = self._scroll.viewport().size()
        wide = room.width() // min(n, COLUMNS) - 2 * INSET_PX - theme.SPACE
        return max(SMALLEST_PX, min(LARGEST_PX, wide, room.height() - LINES * LINE_PX - BELOW_PX))

    def _members(self) -> list["_Member"]:
        shown = [self._flow.itemAt(place).widget() for place in range(self._flow.count())]  # type: ignore[union-attr]
        return [one for one in shown if isinstance(one, _Member)]

    def _draw_tiles(self, row: CopiesRow) -> None:
        proposed = row.proposed(self._left(row))
        for member in self._members():
            member.draw(row, is_proposed=member.picture in proposed)
        one, several = tr("Keep the framed one"), tr("Keep the {n} framed", n=len(proposed))
        keys = self.desk.actions.keys("find.accept")
        self._accept.setText(keyed(one if len(proposed) < 2 else several, keys))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Fit the pictures into the room there is."""
        if event.type() == QEvent.Type.Resize and self._row is not None:
            for member in self._members():
                member.set_side(self._side(len(self._row.pictures)))
            self._hint.setVisible(self._scroll.viewport().width() > HINT_FROM_PX)
        return super().eventFilter(watched, event)

    # What can be done

    def _left(self, row: CopiesRow) -> list[int]:
        hidden = self.session.state.marks.hidden
        return [picture for picture in row.pictures if picture not in hidden]

    def can(self, what: str) -> bool:
        """Tell whether there is a group in hand."""
        return self.in_hand is not None and what in ("fine", "accept", "keep", "leave_out")

    def accept(self) -> None:
        """Keep the framed ones of those that are left."""
        row = self.in_hand
        if row is not None:
            left = self._left(row)
            proposed = row.proposed(left)
            self.session.hide([picture for picture in left if picture not in proposed])
            self.go_on()

    def keep(self, number: int) -> None:
        """Keep one by its number."""
        row = self.in_hand
        if row is not None and number < len(row.pictures):
            self._keep_only(row, row.pictures[number])

    def _keep_only(self, row: CopiesRow, picture: int) -> None:
        if picture in self.session.state.marks.hidden:
            self.session.restore([picture])
        self.session.hide([other for other in row.pictures if other != picture])
        self.go_on()

    def fine(self) -> None:
        """Say that those that are left are no copies of each other."""
        row = self.in_hand
        if row is not None:
            subject = ",".join(map(str, sorted(self._left(row))))
            self.session.judge(NOT_COPIES, subject, KEPT)
            self.go_on()

    def leave_out(self) -> None:
        """Leave the current picture out, or take it back."""
        row, current = self.in_hand, self.session.state.current
        if row is not None and current is not None and current in row.pictures:
            self.turn(current)

    def turn(self, picture: int) -> None:
        """Leave a picture out, or take it back."""
        if picture in self.session.state.marks.hidden:
            self.session.restore([picture])
        else:
            self.session.hide([picture])


class _Member(QWidget):
    """One picture of a group, what is known of it, and what can be done with it."""

    def __init__(self, panel: DuplicatesPanel, place: int, picture: int, side: int) -> None:
        super().__init__()
        self._panel = panel
        self._place = place
        self.picture = picture
        self._tile = PictureTile(panel.desk, side, LINES, is_square=False)
        self._tile.pressed.connect(self._pressed)
        self._keep = button(tr("Keep only this"), lambda: panel.keep(place), kind="quiet")
        self._keep.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._turn = IconButton("eye-slash", tr("Leave this one out, or take it back"), lambda: panel.turn(picture))
        row = QHBoxLayout()
        row.setSpacing(theme.SPACE_S)
        row.setContentsMargins(INSET_PX - 4, 0, 0, 0)
        row.addWidget(self._keep)
        row.addWidget(self._turn)
        row.addStretch()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._tile)
        column.addLayout(row)

    def set_side(self, side: int) -> None:
        """Show it larger or smaller."""
        self._tile.set_side(side)

    def draw(self, row: CopiesRow, *, is_proposed: bool) -> None:
        """Show what is known of it now."""
        state = self._panel.session.state
        table = state.table
        at = table.row_of(self.picture)
        width, height = int(table.widths_N[at]), int(table.heights_N[at])
        likeness = row.likeness_of(self.picture)
        alike = tr("largest · to keep") if self._place == 0 else tr("unlike number 1 · to keep")
        if likeness is not None:
            kept = row.pictures.index(row.keep_of(self.picture)) + 1
            alike = tr("{likeness} like number {kept}", likeness=f"{likeness:.3f}", kept=kept)
        labels = len(row.labels(table)) > 1
        splits = len(row.splits(table)) > 1
        label_text = table.label_of(self.picture) or tr("no label")
        split = table.split.word(at)
        where = " · ".join(filter(None, (split, table.sub_folder.word(at))))
        size = size_in_words(int(table.sizes_N[at]))
        lines = (
            (table.name(self.picture), "text"),
            (f"{width:,} × {height:,} · {size}", "muted"),  # noqa: RUF001
            (f"{label_text} · {where}", "warning" if labels else "danger" if splits else "muted"),
            (alike, "muted"),
        )
        number = str(self._place + 1) if self._place < KEYS else ""
        is_out = self.picture in state.marks.hidden
        self._tile.set_look(
            TileLook(self.picture, lines, number=number, is_out=is_out, is_best=is_proposed, is_ringed=is_proposed)
        )
        self._tile.setToolTip(table.path(self.picture))

    def _pressed(self, is_second: bool) -> None:
        if is_second:
            self._panel.turn(self.picture)
        else:
            self._panel.session.set_current(self.picture)
