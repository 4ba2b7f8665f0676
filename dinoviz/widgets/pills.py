"""Small controls for what a person says of pictures: stars to click, tags to add and take off, a label to type."""

from collections.abc import Callable, Iterable, Mapping

from PySide6.QtCore import QEvent, QRect, QSize, QStringListModel, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QCompleter, QFrame, QHBoxLayout, QLabel, QLineEdit, QSizePolicy, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import IconButton, label
from dinoviz.watching import follow
from dinoviz.widgets.flow import Flow
from dinoviz.words import counted, tr
from engine.marks import MOST_STARS

STAR_PX = 20
STAR_STEP_PX = 24
DOT_PX = 10
PILL_PX = 24


def star_colour() -> str:
    """Return the gold of stars, with a contrast of 3 to 1 on the panel."""
    return "#F2B84B" if theme.is_dark() else "#BF8300"


class Stars(QWidget):
    """Five stars; a click gives so many, a click on the last one takes them away.

    Signals:
        rated: number of stars that the person gave.
    """

    rated = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._stars = 0
        self._hovered = 0
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFixedSize(self.sizeHint())
        self.setToolTip(tr("Click for so many stars, or press 1 to 5. The same again takes them away."))
        follow(self, theme.changed, self.update)
        self._name()

    def set_stars(self, stars: int) -> None:
        """Show so many; -1 where several pictures have different ones."""
        if stars != self._stars:
            self._stars = stars
            self._name()
            self.update()

    def sizeHint(self) -> QSize:
        """Ask for the room of five stars."""
        return QSize(MOST_STARS * STAR_STEP_PX + 4, STAR_PX + 8)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the stars; those that a click would give while the mouse is over them."""
        lit = self._hovered or max(0, self._stars)
        with QPainter(self) as painter:
            for i in range(MOST_STARS):
                box = QRect(2 + i * STAR_STEP_PX, 4, STAR_PX, STAR_PX)
                icon = theme.icon("star-fill", star_colour()) if i < lit else theme.icon("star", "faint")
                icon.paint(painter, box)
            if self.hasFocus():
                painter.setRenderHint(QPainter.RenderHint.Antialiasing)
                painter.setPen(theme.colours().accent)
                painter.drawRoundedRect(self.rect().adjusted(0, 0, -1, -1), theme.RADIUS, theme.RADIUS)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Show what a click would give."""
        self._hover(self._at(event))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Give the stars under the mouse."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._rate(self._at(event))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Nothing more; the press did it."""
        event.accept()

    def leaveEvent(self, event: QEvent) -> None:
        """Show what there is."""
        super().leaveEvent(event)
        self._hover(0)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Give stars by the arrows and by number."""
        now = max(0, self._stars)
        if event.key() in (Qt.Key.Key_Right, Qt.Key.Key_Up) and now < MOST_STARS:
            self.rated.emit(now + 1)
        elif event.key() in (Qt.Key.Key_Left, Qt.Key.Key_Down) and now > 0:
            self.rated.emit(now - 1)
        elif event.text().isdigit() and int(event.text()) <= MOST_STARS:
            self.rated.emit(int(event.text()))
        else:
            super().keyPressEvent(event)

    def _rate(self, stars: int) -> None:
        self._hovered = 0
        self.rated.emit(0 if stars == self._stars else stars)

    def _hover(self, stars: int) -> None:
        if stars != self._hovered:
            self._hovered = stars
            self.update()

    def _at(self, event: QMouseEvent) -> int:
        return min(MOST_STARS, max(1, int((event.position().x() - 2) // STAR_STEP_PX) + 1))

    def _name(self) -> None:
        said = tr("different ones") if self._stars < 0 else counted(self._stars, tr("star"))
        self.setAccessibleName(tr("Rating: {said}", said=said))


def completer(line: QLineEdit, words: Iterable[str]) -> QCompleter:
    """Return what completes words in a field, found anywhere in them and in upper or lower case."""
    made = QCompleter(QStringListModel(sorted(words)), line)
    made.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
    made.setFilterMode(Qt.MatchFlag.MatchContains)
    return made


class WordField(QLineEdit):
    """A field for one word with completion; Enter gives it, Escape leaves what was.

    Signals:
        given: what the person typed or chose.
        left: Escape was pressed.
    """

    given = Signal(str)
    left = Signal()

    def __init__(self, name: str, hint: str = "") -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setPlaceholderText(hint or name)
        self._shown = ""
        self._words: list[str] = []
        self.returnPressed.connect(self._give)

    def set_words(self, words: Iterable[str]) -> None:
        """Complete from these."""
        wanted = sorted(words)
        if wanted != self._words:
            self._words = wanted
            self.setCompleter(completer(self, wanted))

    def show_word(self, word: str) -> None:
        """Show what is so; not while the person is typing something else."""
        if word != self._shown or not self.hasFocus():
            self._shown = word
            if self.text() != word:
                self.setText(word)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Take back what was typed by Escape."""
        if event.key() == Qt.Key.Key_Escape:
            self.setText(self._shown)
            self.left.emit()
        else:
            super().keyPressEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Show what is so again where nothing was given."""
        super().focusOutEvent(event)
        if event.reason() != Qt.FocusReason.PopupFocusReason:
            self.setText(self._shown)

    def _give(self) -> None:
        word = self.text().strip()
        if word != self._shown:
            self.given.emit(word)


class WordPopup(QFrame):
    """A field for one word over the pictures it is for, with what there is already to choose from.

    Signals:
        given: the word.
    """

    given = Signal(str)
    WIDTH_PX = 320

    def __init__(self, title: str, words: Iterable[str], parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setProperty("kind", "card")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setAccessibleName(title)
        self._field = WordField(title, tr("Type and press Enter"))
        self._field.set_words(words)
        self._field.given.connect(self.given)
        self._field.given.connect(self.close)
        self._field.left.connect(self.close)
        column = QVBoxLayout(self)
        column.setSpacing(theme.SPACE)
        column.addWidget(label(title, "strong"))
        column.addWidget(self._field)
        self.setFixedWidth(self.WIDTH_PX)

    def open_over(self, widget: QWidget) -> None:
        """Show it in the middle of a widget, a third from its top."""
        self.adjustSize()
        place = widget.mapToGlobal(widget.rect().center())
        self.move(place.x() - self.width() // 2, place.y() - widget.height() // 6 - self.height() // 2)
        self.show()
        self._field.setFocus()


class Pill(QFrame):
    """A tag: its colour, its name, how many have it, and a cross that takes it off."""

    def __init__(self, tag: str, on_remove: Callable[[str], object]) -> None:
        super().__init__()
        self.tag = tag
        self.setProperty("kind", "card")
        self.setFixedHeight(PILL_PX)
        self._dot = QLabel()
        self._dot.setFixedSize(DOT_PX, DOT_PX)
        self._text = QLabel()
        self._text.setTextFormat(Qt.TextFormat.PlainText)
        cross = IconButton("x", tr("Take off the tag {tag}", tag=tag), lambda: on_remove(tag))
        cross.setIconSize(QSize(10, 10))
        row = QHBoxLayout(self)
        row.setContentsMargins(theme.SPACE, 0, 0, 0)
        row.setSpacing(theme.SPACE_S)
        for part in (self._dot, self._text, cross):
            row.addWidget(part)

    def say(self, text: str, dot: object) -> None:
        """Write its name and colour."""
        self._text.setText(text)
        self._dot.setPixmap(dot)  # type: ignore[arg-type]


class TagField(QWidget):
    """The tags of one or several pictures, and a field to add one.

    Signals:
        added: a tag for all of the pictures.
        removed: a tag that none of them shall have.
    """

    added = Signal(str)
    removed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._pills: dict[str, Pill] = {}
        self._area = QWidget()
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self._area.setSizePolicy(policy)
        self._flow = Flow(self._area)
        self.field = WordField(tr("Add a tag"))
        self.field.given.connect(self._give)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.SPACE_S)
        column.addWidget(self._area)
        column.addWidget(self.field)

    def show_tags(self, tags: Mapping[str, int], all_of: int, known: Mapping[str, object]) -> None:
        """Show tags.

        Args:
            tags: how many of the pictures have each.
            all_of: how many pictures there are.
            known: a dot, as QPixmap, for every tag there is.
        """
        for gone in [tag for tag in self._pills if tag not in tags]:
            pill = self._pills.pop(gone)
            self._flow.removeWidget(pill)
            pill.hide()
            pill.deleteLater()
        for tag, count in tags.items():
            if tag not in self._pills:
                self._pills[tag] = Pill(tag, self.removed.emit)
                self._flow.addWidget(self._pills[tag])
            self._pills[tag].say(tag if count == all_of else f"{tag}  {count:,}", known[tag])
        self._area.setVisible(bool(tags))
        self.field.set_words(known)

    def _give(self, tag: str) -> None:
        self.field.clear()
        if tag:
            self.added.emit(tag)
