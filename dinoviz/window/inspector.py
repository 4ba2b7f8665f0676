"""The panel on the right: the current picture, what is said of it, what looks like it; and all that are selected."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPixmap, QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import Hint, IconButton, Line, Section, button, label
from dinoviz.desk import Desk
from dinoviz.features import SetRow, likeness_to
from dinoviz.session import State
from dinoviz.table import Ids, PictureTable, no_ids
from dinoviz.watching import follow, watch
from dinoviz.widgets.picture.cells import tag_colours
from dinoviz.widgets.picture.grid import PictureGrid
from dinoviz.widgets.pills import DOT_PX, Stars, TagField, WordField
from dinoviz.words import counted, date_in_words, tr
from engine.errors import UserError
from engine.finding.neighbours import read_neighbours
from engine.images import Shot, shot
from engine.marks import Marks
from engine.quantities import size_in_words
from engine.sets import FeatureSet

WIDTHS_PX = (264, 440)
PREVIEW_PX = 200
LIKE_SIDE_PX = 72
LIKE_ROWS = 2
LIKE_COUNT = 10
"""As many as the rows of the widest panel hold."""
LABELS_SHOWN = 6
BAR_PX = 6
COMPARED_AT_MOST = 200_000
"""Pictures that are compared one by one, in a tenth of a second, where no table of neighbours was made."""


class Inspector(QScrollArea):
    """What is known of the current picture, and of those that are selected."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(WIDTHS_PX[0])
        self.setMaximumWidth(WIDTHS_PX[1])
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName(tr("Inspector"))
        inside = QFrame()
        inside.setProperty("kind", "panel")
        self._many = _ManyPanel(desk)
        self._one = _OnePanel(desk)
        self._line = Line()
        self._nothing = _Nothing()
        column = QVBoxLayout(inside)
        column.setContentsMargins(theme.SPACE_L - 4, theme.SPACE_L - 4, theme.SPACE_L - 4, theme.SPACE_L)
        column.setSpacing(theme.SPACE)
        for part in (self._many, self._line, self._one, self._nothing):
            column.addWidget(part)
        column.addStretch(1)
        self.setWidget(inside)
        watch(self, desk.session, ("current", "selected", "project", "table"), self._show)
        self._show()

    def _show(self) -> None:
        state = self._desk.session.state
        has_one = state.current is not None and state.table.contains(state.current)
        has_many = len(state.selected) > 1
        self._one.setVisible(has_one)
        self._many.setVisible(has_many)
        self._line.setVisible(has_one and has_many)
        self._nothing.setVisible(not has_one and not has_many)


class _Nothing(QWidget):
    """What stands here while no picture is chosen."""

    def __init__(self) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, theme.SPACE_XL, 0, 0)
        column.setSpacing(theme.SPACE)
        for part in (
            label(tr("No picture chosen"), "heading"),
            Hint(tr("Click a picture, and what is known of it appears here: stars, label, tags, file, its likes.")),
        ):
            part.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            column.addWidget(part)


class _Preview(QWidget):
    """The current picture, as large as the panel; a click looks at it.

    Signals:
        pressed: it was clicked, or Enter pressed on it.
    """

    pressed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._picture: int | None = None
        self.setFixedHeight(PREVIEW_PX)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setToolTip(tr("Look at it: what does the network see here?"))
        desk.thumbnails.arrived.connect(self._arrived)
        follow(self, theme.changed, self.update)

    def show_picture(self, picture: int, name: str) -> None:
        """Show another picture."""
        self._picture = picture
        self.setAccessibleName(tr("Look at {name}", name=name))
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the picture in the middle."""
        if self._picture is None:
            return
        side = max(self.width(), self.height())
        scale = self.devicePixelRatioF()
        image = self._desk.thumbnails.image(self._picture, round(side * scale))
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            if image is not None:
                painter.drawImage(self._place(image.width() / image.height()), image)
            if self.hasFocus():
                painter.setPen(theme.colours().accent)
                painter.drawRect(self.rect().adjusted(0, 0, -1, -1))

    def _place(self, aspect: float) -> QRect:
        width = min(self.width(), round(self.height() * aspect))
        height = min(self.height(), round(self.width() / aspect))
        return QRect((self.width() - width) // 2, (self.height() - height) // 2, width, height)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Wait for the mouse to be let go."""
        event.accept()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Look at the picture."""
        event.accept()
        if event.button() == Qt.MouseButton.LeftButton and self.rect().contains(event.position().toPoint()):
            self.pressed.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Look at the picture by Enter or Space."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.pressed.emit()
        else:
            super().keyPressEvent(event)

    def _arrived(self, picture: int) -> None:
        if picture == self._picture:
            self.update()


class ElidedLabel(QLabel):
    """One line of text that gives up its middle where it is too long; the whole is its tooltip."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.setProperty("kind", kind)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._whole = ""

    def say(self, text: str) -> None:
        """Show a text."""
        self._whole = text
        self.setToolTip(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Show as much as there is room for."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        self.setText(self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideMiddle, self.width()))


class _Facts(QWidget):
    """Names and values, two columns."""

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(theme.SPACE_L)
        self._grid.setVerticalSpacing(theme.SPACE_S)
        self._grid.setColumnStretch(1, 1)
        self._rows: dict[str, tuple[QLabel, QLabel]] = {}

    def say(self, name: str, value: str, kind: str = "body") -> None:
        """Write a value; without one its row is not there."""
        if name not in self._rows:
            row = len(self._rows)
            parts = label(name, "muted"), label("", kind, wraps=True)
            parts[1].setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            for column, part in enumerate(parts):
                self._grid.addWidget(part, row, column, Qt.AlignmentFlag.AlignTop)
            self._rows[name] = parts
        for part in self._rows[name]:
            part.setVisible(bool(value))
        self._rows[name][1].setText(value)


class _OnePanel(QWidget):
    """The current picture."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._session = desk.session
        self._preview = _Preview(desk)
        self._preview.pressed.connect(lambda: desk.actions.trigger("picture.look"))
        self._name = ElidedLabel("strong")
        self._name.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._folder_text = ""
        self._folder = button("", lambda: desk.actions.trigger("picture.reveal"), kind="link")
        self._problem = label("", "danger", wraps=True)
        self._marks = _MarksSection(desk, tr("What you say of it"))
        self._facts = _Facts()
        file = Section(tr("File"))
        file.body.addWidget(self._facts)
        self._alike = _AlikeSection(desk)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.SPACE_S)
        for part in (self._preview, self._name, self._folder, self._problem):
            column.addWidget(part)
        column.addSpacing(theme.SPACE)
        for section in (self._marks, file, self._alike):
            column.addWidget(section)
        watch(self, self._session, ("current", "table", "marks"), self._show)
        self._show()

    def _show(self) -> None:
        state = self._session.state
        if state.current is None or not state.table.contains(state.current):
            return
        picture, table = state.current, state.table
        name, path = table.name(picture), table.path(picture)
        self._preview.show_picture(picture, name)
        self._name.say(name)
        folder = path.rpartition("/")[0] or table.folder.name
        self._folder_text = folder
        self._fit_folder()
        self._folder.setToolTip(tr("Show the file in the file manager:\n{path}", path=str(table.file(picture))))
        self._folder.setAccessibleName(tr("Reveal the file in {folder}", folder=folder))
        problem = self._desk.thumbnails.problem(picture)
        self._problem.setText(tr("Cannot be read: {problem}", problem=problem) if problem else "")
        self._problem.setVisible(bool(problem))
        self._marks.show_marks(np.array([picture], np.int64), state)
        self._say_facts(picture, state)
        self._alike.show_alike()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Shorten the folder to what there is room for."""
        super().resizeEvent(event)
        self._fit_folder()

    def _fit_folder(self) -> None:
        metrics = self._folder.fontMetrics()
        self._folder.setText(metrics.elidedText(self._folder_text, Qt.TextElideMode.ElideLeft, self.width()))

    def _say_facts(self, picture: int, state: State) -> None:
        table = state.table
        row = table.row_of(picture)
        width, height = int(table.widths_N[row]), int(table.heights_N[row])
        self._facts.say(tr("Pixels"), f"{width:,} \N{MULTIPLICATION SIGN} {height:,}" if width else "")
        self._facts.say(tr("Size"), size_in_words(int(table.sizes_N[row])))
        self._facts.say(tr("Split"), table.split.word(row) or "")
        self._facts.say(tr("Changed"), date_in_words(table.mtimes_N[row] / 1e9))
        file = table.file(picture)
        self._desk.background("inspector shot", lambda: _shot(file), self._say_shot)

    def _say_shot(self, found: Shot) -> None:
        self._facts.say(tr("Taken"), found.taken)
        self._facts.say(tr("Camera"), found.camera)


def _shot(file: Path) -> Shot:
    try:
        return shot(file)
    except UserError:
        return Shot()


class _MarksSection(Section):
    """Stars, label and tags of some pictures, to see and to change."""

    def __init__(self, desk: Desk, title: str) -> None:
        super().__init__(title)
        self._session = desk.session
        self._ids: Ids = no_ids()
        self._stars = Stars()
        self._stars.rated.connect(lambda stars: self._session.rate(self._ids, stars))
        self._label = WordField(tr("Label"), tr("No label"))
        self._label.setToolTip(
            tr("What is in the picture. Labels come from folders; what you type here wins, and can be exported.")
        )
        self._label.given.connect(lambda text: self._session.label(self._ids, text or None))
        self._revert = IconButton(
            "arrow-counter-clockwise",
            tr("Back to the label of the folder"),
            lambda: self._session.label(self._ids, None),
        )
        self._tags = TagField()
        self._tags.added.connect(lambda tag: self._session.tag(self._ids, tag))
        self._tags.removed.connect(lambda tag: self._session.untag(self._ids, tag))
        row = QHBoxLayout()
        row.setSpacing(theme.SPACE_S)
        row.addWidget(self._label, 1)
        row.addWidget(self._revert)
        self._corrected = Hint(tr("Corrected by you"))
        self.body.addWidget(self._stars)
        self.body.addLayout(row)
        self.body.addWidget(self._corrected)
        self.body.addWidget(self._tags)

    def show_marks(self, ids: Ids, state: State, said: "_Said | None" = None) -> None:
        """Show what is said of one picture; of several, what was counted."""
        self._ids = ids
        said = said or _said(ids, state.table, state.marks)
        self._stars.set_stars(said.stars)
        self._label.show_word(said.label)
        self._label.setPlaceholderText(tr("No label") if said.n_labels < 2 else tr("{n} labels", n=said.n_labels))
        self._label.set_words(state.table.label.words)
        self._revert.setVisible(said.n_corrected > 0)
        self._corrected.setVisible(said.n_corrected > 0)
        if len(ids) > 1:
            self._corrected.setText(tr("{n} corrected by you", n=said.n_corrected))
        dots = {tag: _dot(colour, self.devicePixelRatioF()) for tag, colour in tag_colours(state.marks.tags).items()}
        self._tags.show_tags({tag: n for tag, n in said.tags.items() if tag in dots}, len(ids), dots)


def _dot(colour: QColor, scale: float) -> QPixmap:
    made = QPixmap(QSize(round(DOT_PX * scale), round(DOT_PX * scale)))
    made.setDevicePixelRatio(scale)
    made.fill(Qt.GlobalColor.transparent)
    with QPainter(made) as painter:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        painter.drawEllipse(0, 0, DOT_PX, DOT_PX)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What is said of some pictures together.

    Args:
        stars: of all of them; -1 where they differ.
        label: of all of them; empty where they differ.
        n_labels: different ones.
        n_corrected: pictures whose label was corrected.
        tags: pictures with each tag.
        labels: the most frequent labels, with their pictures; empty for none.
    """

    stars: int
    label: str
    n_labels: int
    n_corrected: int
    tags: dict[str, int]
    labels: tuple[tuple[str, int], ...]


def _said(ids: Ids, table: PictureTable, marks: Marks) -> _Said:
    """Count what is said; for many pictures not on the thread that paints."""
    chosen = set(ids.tolist())
    stars = {marks.ratings.get(picture, 0) for picture in chosen}
    codes = table.label.codes_N[table.rows_of(ids)]
    counts = np.bincount(codes + 1, minlength=len(table.label.words) + 1).tolist()
    by_count = sorted(zip(counts, ("", *table.label.words), strict=True), reverse=True)
    labels = tuple((word, count) for count, word in by_count if count)
    return _Said(
        stars=stars.pop() if len(stars) == 1 else -1,
        label=labels[0][0] if len(labels) == 1 else "",
        n_labels=len(labels),
        n_corrected=sum(picture in chosen for picture in marks.labels),
        tags={tag: n for tag in sorted(marks.tags) if (n := len(marks.tags[tag] & chosen))},
        labels=labels,
    )


class _Bars(QWidget):
    """How many pictures have each label, as bars."""

    ROW_PX = 22

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[tuple[str, int], ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        follow(self, theme.changed, self.update)

    def show_counts(self, counts: tuple[tuple[str, int], ...]) -> None:
        """Show the most frequent ones, and the rest together."""
        shown, rest = counts[:LABELS_SHOWN], counts[LABELS_SHOWN:]
        self._rows = tuple((text or tr("No label"), count) for text, count in shown)
        if rest:
            self._rows += ((counted(len(rest), tr("other")), sum(count for _, count in rest)),)
        self.setFixedHeight(self.ROW_PX * len(self._rows))
        self.setAccessibleName(", ".join(f"{text} {count:,}" for text, count in self._rows))
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw names, bars and numbers."""
        most = max((count for _, count in self._rows), default=1)
        c = theme.colours()
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setFont(theme.font("small"))
            metrics = painter.fontMetrics()
            numbers = max((metrics.horizontalAdvance(f"{count:,}") for _, count in self._rows), default=0)
            left, right = self.width() * 2 // 5, self.width() - numbers - theme.SPACE
            for i, (text, count) in enumerate(self._rows):
                row = QRect(0, i * self.ROW_PX, self.width(), self.ROW_PX)
                painter.setPen(c.text)
                elided = metrics.elidedText(text, Qt.TextElideMode.ElideRight, left - theme.SPACE)
                painter.drawText(row, Qt.AlignmentFlag.AlignVCenter, elided)
                painter.setPen(c.muted)
                painter.drawText(row, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, f"{count:,}")
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(c.accent)
                width = max(2, round((right - left) * count / most))
                painter.drawRoundedRect(left, row.center().y() - BAR_PX // 2, width, BAR_PX, 2, 2)


class _ManyPanel(QWidget):
    """All that are selected: what they have in common, and what can be done with them."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._session = desk.session
        self._title = label("", "heading")
        self._marks = _MarksSection(desk, tr("What you say of all of them"))
        self._bars = _Bars()
        labels = Section(tr("Labels"))
        labels.body.addWidget(self._bars)
        none = IconButton("x", tr("Select nothing"), lambda: desk.actions.trigger("edit.select_none"))
        top = QHBoxLayout()
        top.addWidget(self._title, 1)
        top.addWidget(none)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.SPACE_S)
        column.addLayout(top)
        column.addLayout(self._actions())
        column.addWidget(self._marks)
        column.addWidget(labels)
        watch(self, self._session, ("selected", "table", "marks"), self._count)
        self._count()

    def _actions(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(theme.SPACE_S)
        for name in ("picture.look", "picture.similar", "selection.keep", "export.embeddings", "picture.hide"):
            row.addWidget(self._desk.actions.button(name))
        row.addStretch(1)
        return row

    def _count(self) -> None:
        state = self._session.state
        ids = state.selected
        self._title.setText(tr("{n} selected", n=len(ids)))
        if len(ids) > 1:
            work: Callable[[], _Said] = lambda: _said(ids, state.table, state.marks)  # noqa: E731 - a name for its type
            self._desk.background("inspector selection", work, lambda said: self._show(ids, said))

    def _show(self, ids: Ids, said: _Said) -> None:
        self._marks.show_marks(ids, self._session.state, said)
        self._bars.show_counts(said.labels)


class _AlikeSection(Section):
    """The pictures whose features are nearest to those of the current one."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(tr("Looks most like"))
        self._desk = desk
        self._session = desk.session
        self._reader = _NearestReader()
        self._grid = PictureGrid(desk, key="inspector", is_strip=True)
        self._grid.set_side(LIKE_SIDE_PX)
        self._grid.setFixedHeight(self._grid.height_of_rows(LIKE_ROWS))
        self._grid.activated.connect(lambda _picture: desk.actions.trigger("picture.look"))
        self._hint = Hint("")
        self.body.addWidget(self._grid)
        self.body.addWidget(self._hint)
        watch(self, self._session, ("set", "sets"), self.show_alike)

    def show_alike(self) -> None:
        """Look for them, elsewhere."""
        state = self._session.state
        row, picture = state.set_row, state.current
        if row is None or picture is None:
            self._say(tr("Known as soon as there are features: make them in Find or Map."))
            return
        self._desk.background(
            "inspector alike",
            lambda: self._reader.nearest(picture, row, state.table),
            self._show,
            lambda _problem: self._say(tr("The features of this project cannot be read.")),
        )

    def _show(self, found: tuple[Ids, NDArray[np.float32]] | None) -> None:
        if found is None:
            self._say(tr("There are no features of this picture yet."))
            return
        ids, likeness = found
        if not len(ids):
            self._say(tr("No neighbours are known; Find makes the table of them."))
            return
        self._hint.setText(_likeness_in_words(likeness))
        self._grid.show()
        self._grid.set_ids(ids[: LIKE_ROWS * self._grid.columns])
        self._hint.show()

    def _say(self, text: str) -> None:
        self._hint.setText(text)
        self._hint.show()
        self._grid.hide()


def _likeness_in_words(likeness: NDArray[np.float32]) -> str:
    return tr("Likeness {most} to {least}; 1 is the same.", most=f"{likeness.max():.2f}", least=f"{likeness.min():.2f}")


class _NearestReader:
    """Looks up neighbours in the tables of the sets; the set used last stays open. Used in threads, one at a time."""

    def __init__(self) -> None:
        self._opened: tuple[tuple[Path, int], FeatureSet] | None = None

    def nearest(self, picture: int, row: SetRow, table: PictureTable) -> tuple[Ids, NDArray[np.float32]] | None:
        """Return the nearest pictures and their cosines, the nearest first; None where the picture has no features."""
        features = self._open(row.folder)
        place = int(np.searchsorted(features.ids_N, picture))
        if place >= len(features) or features.ids_N[place] != picture or not features.is_seen_N[place]:
            return None
        try:
            neighbours = read_neighbours(features)
        except UserError:
            return _compared(picture, row, table)
        rows, likeness = neighbours.rows_Nk[place], neighbours.likeness_Nk[place]
        ids = features.ids_N[rows[rows >= 0]]
        is_there = np.array([table.contains(int(i)) for i in ids], np.bool_)
        return ids[is_there][:LIKE_COUNT], likeness[rows >= 0][is_there][:LIKE_COUNT]

    def _open(self, folder: Path) -> FeatureSet:
        key = folder, (folder / "rows.npy").stat().st_mtime_ns
        opened = self._opened
        if opened is None or opened[0] != key:
            opened = self._opened = (key, FeatureSet(folder))
        return opened[1]


def _compared(picture: int, row: SetRow, table: PictureTable) -> tuple[Ids, NDArray[np.float32]] | None:
    """Compare with all pictures; nothing where that would take long."""
    if row.count > COMPARED_AT_MOST:
        return no_ids(), np.zeros(0, np.float32)
    likeness_N = likeness_to(picture, row.folder, table)
    if likeness_N is None:
        return None
    likeness_N = np.nan_to_num(likeness_N, nan=-np.inf)
    likeness_N[table.row_of(picture)] = -np.inf
    best = np.argsort(-likeness_N)[:LIKE_COUNT]
    best = best[np.isfinite(likeness_N[best])]
    return table.ids_N[best], likeness_N[best]
