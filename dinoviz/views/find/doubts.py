"""Outliers and doubtful labels: one picture at a time, with its neighbours as the reason."""

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QObject, QStringListModel, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QCompleter,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import Hint, Line, label
from dinoviz.desk import Desk
from dinoviz.views.find.lists import FINE, KEPT, RIGHT, LabelRow, Lists, OutlierRow
from dinoviz.views.find.work_panel import RowWords, WorkPanel, keyed
from dinoviz.watching import watch
from dinoviz.widgets.flow import Flow
from dinoviz.widgets.picture.tile import INSET_PX, PictureTile, TileLook
from dinoviz.words import tr

PICTURE_PX, LEAST_PX = 400, 180
AROUND_PX = 150
"""Height of margins, heading and the line below a large picture."""
NEAR_PX = 92
NEAR = 12
"""Neighbours that are shown: two lines of them beside each other."""
WORDS_PX, MOST_WORDS_PX = 230, 380


class _OnePicture(WorkPanel):
    """A list of single pictures: the one in hand large, words beside it, its neighbours below."""

    def __init__(self, desk: Desk, name: str) -> None:
        super().__init__(desk, name)
        self._slot = f"find.near {name}"
        self._lists: Lists | None = None
        self._near_of: object = None
        self._near: list[tuple[int, float]] = []
        self._picture = PictureTile(desk, PICTURE_PX, 1, is_square=False)
        self._picture.pressed.connect(lambda _second: desk.actions.trigger("picture.look"))
        self._copy = PictureTile(desk, PICTURE_PX, 1, is_square=False)
        self._title = label("", "title", wraps=True)
        self._text = label("", "muted", wraps=True)
        self._buttons = QVBoxLayout()
        self._buttons.setSpacing(theme.SPACE)
        self._near_title = label(tr("Its nearest pictures"), "heading")
        self._near_hint = Hint("")
        self._flow_widget = QWidget()
        self._flow = Flow(self._flow_widget, theme.SPACE_S)
        self._tiles: list[PictureTile] = []
        self._lay_out()
        watch(self, self.session, ("table",), self._draw_near)

    def _lay_out(self) -> None:
        words = QVBoxLayout()
        words.setSpacing(theme.SPACE)
        words.addWidget(self._title)
        words.addWidget(self._text)
        words.addSpacing(theme.SPACE)
        words.addLayout(self._buttons)
        words.addStretch()
        side = QWidget()
        side.setLayout(words)
        side.setMinimumWidth(WORDS_PX)
        side.setMaximumWidth(MOST_WORDS_PX)
        side.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        top = QHBoxLayout()
        top.setSpacing(theme.SPACE_L)
        for tile in (self._picture, self._copy):
            top.addWidget(tile, 0, Qt.AlignmentFlag.AlignTop)
        top.addWidget(side, 1)
        top.addStretch()
        inside = QWidget()
        inside.setProperty("kind", "plain")
        column = QVBoxLayout(inside)
        column.setContentsMargins(theme.SPACE_L, theme.SPACE_L, theme.SPACE_L, theme.SPACE_L)
        column.setSpacing(theme.SPACE)
        self._scroll = QScrollArea()
        self._scroll.setWidget(inside)
        self._scroll.setWidgetResizable(True)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._scroll.viewport().installEventFilter(self)
        self.detail.setContentsMargins(0, 0, 0, 0)
        self.detail.addWidget(self._scroll)
        column.addLayout(top)
        column.addSpacing(theme.SPACE)
        column.addWidget(Line())
        head = QHBoxLayout()
        head.setContentsMargins(INSET_PX, 0, 0, 0)
        head.setSpacing(theme.SPACE)
        head.addWidget(self._near_title)
        head.addWidget(self._near_hint, 1)
        column.addLayout(head)
        column.addWidget(self._flow_widget)
        column.addStretch(1)
        for _ in range(NEAR):
            tile = PictureTile(self.desk, NEAR_PX, 2)
            tile.pressed.connect(lambda _second, tile=tile: self._look_at(tile))
            self._tiles.append(tile)
            self._flow.addWidget(tile)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Fit the pictures into the room there is."""
        if event.type() == QEvent.Type.Resize:
            self._fit()
        return super().eventFilter(watched, event)

    def _fit(self) -> None:
        """Let the large pictures take what the words beside and the neighbours below leave."""
        room = self._scroll.viewport().size()
        n = 1 if self._copy.isHidden() else 2
        wide = (room.width() - WORDS_PX - 4 * theme.SPACE_L) // n - 2 * INSET_PX - theme.SPACE_L
        high = room.height() - self._flow.heightForWidth(room.width() - 2 * theme.SPACE_L) - AROUND_PX
        for tile in (self._picture, self._copy):
            tile.set_side(max(LEAST_PX, min(PICTURE_PX, wide, high)))

    def _look_at(self, tile: PictureTile) -> None:
        if tile.look is not None and isinstance(tile.look.picture, int):
            self.session.set_current(tile.look.picture)

    def _show_picture(self, picture: int) -> None:
        table = self.session.state.table
        is_out = picture in self.session.state.marks.hidden
        self._picture.set_look(
            TileLook(picture, ((table.path(picture), "muted"),), is_out=is_out, tip=tr("Look at it"))
        )
        if picture != self._near_of:
            self._near_of = picture
            self._ask_near(picture)

    def _ask_near(self, picture: int) -> None:
        lists = self._lists
        if lists is None:
            return

        def take(near: list[tuple[int, float]]) -> None:
            table = self.session.state.table
            self._near = [(one, like) for one, like in near if table.contains(one)]
            self._draw_near()

        self.desk.background.run(self._slot, lambda: lists.near(picture, NEAR), take)

    def _draw_near(self) -> None:
        table = self.session.state.table
        for place, tile in enumerate(self._tiles):
            shown = self._near[place] if place < len(self._near) else None
            tile.setVisible(shown is not None)
            if shown is not None and table.contains(shown[0]):
                said = table.label_of(shown[0])
                lines = ((said or tr("no label"), self.colour_of(said)), (f"{shown[1]:.2f}", "muted"))
                tile.set_look(TileLook(shown[0], lines, tip=table.path(shown[0])))
        self._near_title.setVisible(bool(self._near))
        self._fit()

    def colour_of(self, said: str | None) -> str:
        """Return the colour that the label of a neighbour is written in."""
        return "text"

    def _add_buttons(self, rows: Sequence[tuple[str, str, str]]) -> list[QPushButton]:
        made = []
        for name, text, kind in rows:
            press = self.action_button(name, text, kind=kind)
            self._buttons.addWidget(press)
            made.append(press)
        return made

    def _done(self) -> None:
        self.say("check-circle", tr("All worked through"), tr("Ctrl+Z undoes, also much later."))

    def leave_out(self) -> None:
        """Leave the picture in hand out of the project."""
        if self.in_hand is not None:
            self.session.hide([self.in_hand.pictures[0]])
            self.go_on()


class OutliersPanel(_OnePicture):
    """Pictures unlike all others."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, tr("Pictures unlike the others"))
        self._add_buttons(
            (
                ("find.fine", tr("It belongs here"), "primary"),
                ("find.leave_out", tr("Leave it out"), ""),
                ("find.next", tr("Skip"), "quiet"),
            )
        )
        self._copy.hide()

    def set_lists(self, lists: Lists | None) -> None:
        """Work through the outliers of a set."""
        self._lists = lists
        self._near_of = None
        self.set_rows(lists.outliers if lists else ())

    def words(self, row: OutlierRow) -> RowWords:
        """Return the name and how far it is from others."""
        table = self.session.state.table
        badges = (("warning", "warning"),) if row.outlier.stands_out else ()
        detail = tr("{score} times the usual spread", score=f"{row.outlier.score:.1f}")
        return RowWords(table.label_of(row.outlier.picture) or table.name(row.outlier.picture), detail, badges)

    def show_row(self, row: OutlierRow | None) -> None:
        """Show a picture and how far it is."""
        if row is None:
            if self.work.rows:
                self._done()
            return
        self._show_picture(row.outlier.picture)
        table = self.session.state.table
        title = tr("Stands out from all others") if row.outlier.stands_out else tr("Among the least usual pictures")
        self._title.setText(title)
        said = table.label_of(row.outlier.picture)
        text = tr(
            "Even its nearest pictures are far: {score} times the usual spread above the middle of this project. "
            "It may be a stranger, a bad photo, or simply rare.",
            score=f"{row.outlier.score:.1f}",
        )
        self._text.setText(tr("Labelled {label}. ", label=said) + text if said else text)

    def can(self, what: str) -> bool:
        """Tell whether there is a picture in hand."""
        return self.in_hand is not None and what in ("fine", "leave_out")

    def fine(self) -> None:
        """Say that the picture belongs here."""
        if self.in_hand is not None:
            self.session.judge(FINE, str(self.in_hand.outlier.picture), KEPT)
            self.go_on()


class LabelsPanel(_OnePicture):
    """Labels in doubt."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk, tr("Labels in doubt"))
        take, right, *_ = self._add_buttons(
            (
                ("find.accept", tr("Take it"), "primary"),
                ("find.fine", tr("Keep it"), ""),
                ("find.leave_out", tr("Leave the picture out"), ""),
                ("find.next", tr("Skip"), "quiet"),
            )
        )
        self._take, self._right_button = take, right
        self._field = _LabelField()
        self._field.setPlaceholderText(keyed(tr("Another label …"), desk.actions.keys("find.other_label")))
        self._field.returnPressed.connect(lambda: self._say_label(self._field.meant()))
        self._buttons.insertWidget(2, self._field)

    def set_lists(self, lists: Lists | None) -> None:
        """Work through the doubtful labels of a set."""
        self._lists = lists
        self._near_of = None
        self.set_rows(lists.doubts if lists else ())

    def words(self, row: LabelRow) -> RowWords:
        """Return the label, the proposed one and how sure that is."""
        doubt = row.suspect
        why = (
            tr("a copy of it says so")
            if doubt.copy is not None
            else tr("{share} of the votes", share=f"{doubt.confidence:.0%}")
        )
        return RowWords(
            f"{doubt.label} → {doubt.likely}", why, (("copy", "warning"),) if doubt.copy is not None else ()
        )

    def show_row(self, row: LabelRow | None) -> None:
        """Show a picture, its label and the reason to doubt it."""
        if row is None:
            if self.work.rows:
                self._done()
            return
        doubt = row.suspect
        self._show_picture(doubt.picture)
        self._draw_near()
        self._title.setText(tr("{label} → {likely}?", label=doubt.label, likely=doubt.likely))
        table = self.session.state.table
        self._copy.setVisible(doubt.copy is not None)
        if doubt.copy is not None:
            lines = ((tr("its copy: {label}", label=table.label_of(doubt.copy) or ""), "muted"),)
            self._copy.set_look(TileLook(doubt.copy, lines, tip=table.path(doubt.copy)))
            text = tr("The same picture is in the project a second time, with the label {likely}.", likely=doubt.likely)
        else:
            text = tr(
                "Its label is {label}. Of the votes of its neighbours, {share} are for {likely} and {own} for {label}.",
                label=doubt.label,
                likely=doubt.likely,
                share=f"{doubt.confidence:.0%}",
                own=f"{doubt.own:.0%}",
            )
        now = table.label_of(doubt.picture)
        if now is not None and now != doubt.label:
            text += " " + tr("It is corrected to {label}.", label=now)
        self._text.setText(text)
        keys = self.desk.actions.keys
        self._take.setText(keyed(tr("It is {likely}", likely=doubt.likely), keys("find.accept")))
        self._right_button.setText(keyed(tr("It is {label}", label=doubt.label), keys("find.fine")))
        self._near_hint.setText(tr("in colour those that speak for {likely}", likely=doubt.likely))
        self._field.offer(table.label.words)

    def colour_of(self, said: str | None) -> str:
        """Write labels that speak for the proposed one in the accent, those for the present one in plain text."""
        row = self.in_hand
        if row is None:
            return "text"
        return "accent" if said == row.suspect.likely else "text" if said == row.suspect.label else "muted"

    def can(self, what: str) -> bool:
        """Tell whether there is a picture in hand."""
        return self.in_hand is not None and what in ("fine", "accept", "leave_out", "other_label")

    def accept(self) -> None:
        """Take the proposed label."""
        if self.in_hand is not None:
            self._say_label(self.in_hand.suspect.likely)

    def fine(self) -> None:
        """Say that the label is right."""
        if self.in_hand is not None:
            self.session.judge(RIGHT, str(self.in_hand.suspect.picture), KEPT)
            self.go_on()

    def other_label(self) -> None:
        """Let the person say another label."""
        self._field.clear()
        self._field.setFocus()

    def _say_label(self, said: str) -> None:
        row = self.in_hand
        if row is not None and said.strip():
            self.session.label([row.suspect.picture], said)
            self._field.clear()
            self.take_focus()
            self.go_on()


class _LabelField(QLineEdit):
    """A label to type, completed from those there are."""

    def __init__(self) -> None:
        super().__init__()
        self._words = QStringListModel(self)
        completer = QCompleter(self._words, self)
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        self.setCompleter(completer)
        self.setAccessibleName(tr("Another label"))

    def offer(self, words: Sequence[str]) -> None:
        """Complete from these."""
        if self._words.stringList() != list(words):
            self._words.setStringList(list(words))

    def meant(self) -> str:
        """Return the label that was begun, where what was typed begins one only; else what was typed."""
        text = self.text().strip()
        begun = [word for word in self._words.stringList() if word.lower().startswith(text.lower())]
        return begun[0] if text and len(begun) == 1 else text

    def event(self, event: QEvent) -> bool:
        """Keep Enter from being a shortcut while one types."""
        is_key = event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent)
        if is_key and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):  # type: ignore[attr-defined]
            event.accept()
            return True
        return super().event(event)
