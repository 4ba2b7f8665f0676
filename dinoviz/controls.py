"""Controls that several views share, on the spacing and colours of the theme; each has an accessible name."""

from collections.abc import Callable, Container, Sequence
from typing import Any

from PySide6.QtCore import QEvent, QObject, QSize, Qt
from PySide6.QtGui import QDoubleValidator, QIcon, QKeyEvent, QPainter, QPaintEvent, QPixmap, QWheelEvent
from PySide6.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.watching import follow
from dinoviz.words import tr

Press = Callable[[], object]
BAR_STEPS = 1000
"""Of a bar that shows a share."""


def label(text: str, kind: str = "body", *, wraps: bool = False, tip: str = "") -> QLabel:
    """Return a text of a kind of ``theme``: title, heading, strong, body, muted, small, danger, warning, good, chip."""
    made = QLabel(text)
    made.setProperty("kind", kind)
    made.setWordWrap(wraps)
    made.setToolTip(tip)
    made.setTextFormat(Qt.TextFormat.PlainText)
    return made


def Hint(text: str) -> QLabel:
    """Return a muted sentence that wraps."""
    return label(text, "small", wraps=True)


def Line(*, is_upright: bool = False) -> QFrame:
    """Return a hairline."""
    made = QFrame()
    made.setProperty("kind", "upright-line" if is_upright else "line")
    return made


def button(text: str, on_press: Press, *, kind: str = "", icon: str = "", tip: str = "") -> QPushButton:
    """Return a button with a text; ``kind`` is primary, quiet, link or danger."""
    made = QPushButton(text)
    made.setProperty("kind", kind)
    made.setToolTip(tip)
    made.setAccessibleName(text)
    if icon:
        _keep_icon(made, icon, "accent_text" if kind == "primary" else "")
    made.clicked.connect(lambda _checked=False: on_press())
    return made


class IconButton(QToolButton):
    """A small button that is an icon; its tooltip is its name."""

    def __init__(
        self, icon: str, tip: str, on_press: Press | None = None, *, checkable: bool = False, text: str = ""
    ) -> None:
        super().__init__()
        self.setToolTip(tip)
        self.setAccessibleName(tip.partition("\n")[0])
        self.setIconSize(QSize(theme.ICON_PX, theme.ICON_PX))
        self.setCheckable(checkable)
        if text:
            self.setText(text)
            self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        _keep_icon(self, icon)
        if on_press:
            self.clicked.connect(lambda _checked=False: on_press())


def _keep_icon(made: QPushButton | QToolButton, name: str, colour: str = "") -> None:
    """Give a button its icon, again whenever light and dark change places."""

    def draw() -> None:
        made.setIcon(theme.icon(name, colour))

    draw()
    follow(made, theme.changed, draw)


class EmptyState(QWidget):
    """What an empty panel is, and the one thing to do."""

    ICON_PX = 40
    WIDTH_PX = 420

    def __init__(self, icon: str, title: str, text: str, action: str = "", on_press: Press | None = None) -> None:
        super().__init__()
        self._icon_name = icon
        self._icon = QLabel()
        self._title = label(title, "heading")
        self._text = label(text, "muted", wraps=True)
        self._text.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._text.setFixedWidth(self.WIDTH_PX)
        self._fit()
        column = QVBoxLayout(self)
        column.setSpacing(theme.SPACE)
        column.addStretch(2)
        for part in (self._icon, self._title, self._text):
            column.addWidget(part, 0, Qt.AlignmentFlag.AlignHCenter)
        self._bar = QProgressBar()
        self._bar.setFixedWidth(self.WIDTH_PX // 2)
        self._bar.setTextVisible(False)
        self._bar.setAccessibleName(tr("Progress"))
        self._bar.hide()
        column.addWidget(self._bar, 0, Qt.AlignmentFlag.AlignHCenter)
        self.button: QPushButton | None = None
        if action and on_press:
            self.button = button(action, on_press, kind="primary")
            column.addSpacing(theme.SPACE)
            column.addWidget(self.button, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(3)
        self._draw_icon()
        follow(self, theme.changed, self._draw_icon)

    def say(self, title: str, text: str) -> None:
        """Change what it says."""
        self._title.setText(title)
        self._text.setText(text)
        self._fit()

    def show_share(self, share: float | None) -> None:
        """Show how far something is, 0 to 1; the bar swings where that is None."""
        self._bar.setRange(0, 0 if share is None else BAR_STEPS)
        self._bar.setValue(0 if share is None else round(BAR_STEPS * share))
        self._bar.show()

    def _fit(self) -> None:
        """Take the height of all lines: a layout that aligns what is in it asks for that of one."""
        self._text.ensurePolished()
        self._text.setMinimumHeight(max(0, self._text.heightForWidth(self.WIDTH_PX)))  # -1 where there is no text

    def _draw_icon(self) -> None:
        self._icon.setPixmap(pixmap(theme.icon(self._icon_name, "faint"), self.ICON_PX, self))


def pixmap(icon: QIcon, side_px: int, on: QWidget) -> QPixmap:
    """Return an icon as pixels of the screen that a widget is on."""
    return icon.pixmap(QSize(side_px, side_px), on.devicePixelRatioF())


ALONG = {Qt.Key.Key_Left: -1, Qt.Key.Key_Up: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Down: 1}
"""Keys that go from one to the next, and which way."""


def keeps_keys(event: QEvent, keys: Container[int]) -> bool:
    """Keep keys for the widget that has the focus where they are shortcuts of the place; tell whether it did."""
    if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and event.key() in keys:
        event.accept()
        return True
    return False


class Segmented(QFrame):
    """A few choices side by side, of which one holds; Tab reaches that one, the arrows go to the others.

    Args:
        options: value, text and optionally an icon of each; with an icon the text is its tooltip.
        on_choose: called with the value that the person chose.
        name: accessible name of the whole.
    """

    def __init__(self, options: Sequence[tuple[Any, ...]], on_choose: Callable[[Any], object], name: str = "") -> None:
        super().__init__()
        self.setProperty("kind", "segments")
        self.setAccessibleName(name)
        self._on_choose = on_choose
        row = QHBoxLayout(self)
        row.setContentsMargins(2, 2, 2, 2)
        row.setSpacing(2)
        self._group = QButtonGroup(self)
        self._buttons: dict[Any, QToolButton] = {}
        for value, text, *icon in options:
            part = IconButton(icon[0], text, checkable=True) if icon else QToolButton()
            if not icon:
                part.setText(text)
                part.setAccessibleName(text)
            part.setProperty("kind", "segment")
            part.setCheckable(True)
            part.clicked.connect(lambda _checked=False, value=value: on_choose(value))
            part.installEventFilter(self)
            self._group.addButton(part)
            self._buttons[value] = part
            row.addWidget(part)
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
        self._let_tab_reach(next(iter(self._buttons), None))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Go to the next one by the arrows."""
        if keeps_keys(event, ALONG):
            return True
        if event.type() == QEvent.Type.KeyPress and isinstance(event, QKeyEvent) and event.key() in ALONG:
            values = [value for value, part in self._buttons.items() if part.isEnabled() or part is watched]
            at = next(place for place, value in enumerate(values) if self._buttons[value] is watched)
            to = values[(at + ALONG[Qt.Key(event.key())]) % len(values)]
            self._buttons[to].setFocus(Qt.FocusReason.TabFocusReason)
            self.set_value(to)
            self._on_choose(to)
            return True
        return super().eventFilter(watched, event)

    def set_value(self, value: Any) -> None:
        """Show which one holds."""
        if value in self._buttons:
            self._buttons[value].setChecked(True)
            self._let_tab_reach(value)

    def _let_tab_reach(self, value: Any) -> None:
        for other, part in self._buttons.items():
            part.setFocusPolicy(Qt.FocusPolicy.StrongFocus if other == value else Qt.FocusPolicy.ClickFocus)

    def set_text(self, value: Any, text: str) -> None:
        """Name one of them anew."""
        if self._buttons[value].text() != text:
            self._buttons[value].setText(text)
            self._buttons[value].setAccessibleName(text)

    def set_tip(self, value: Any, tip: str) -> None:
        """Say more about one of them."""
        self._buttons[value].setToolTip(tip)

    def set_enabled(self, value: Any, is_enabled: bool) -> None:
        """Let one of them be chosen, or not."""
        self._buttons[value].setEnabled(is_enabled)


class _Slider(QSlider):
    """A slider whose own keys are its own, also where they are shortcuts of the place it stands in."""

    KEYS = frozenset(
        {
            *(Qt.Key.Key_Left, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Down),
            *(Qt.Key.Key_Home, Qt.Key.Key_End, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown),
        }
    )

    def event(self, event: QEvent) -> bool:
        return keeps_keys(event, self.KEYS) or super().event(event)


class SliderRow(QWidget):
    """A name, a slider and the number it stands at, which can be typed too.

    Args:
        text: name.
        low: smallest number.
        high: largest number.
        step: between two positions.
        unit: written behind the number.
        on_change: called with the number while the person moves it.
        tip: what it does.
        factor: number shown for 1, as 100 for shares in %.
    """

    FIELD_PX = 64

    def __init__(
        self,
        text: str,
        low: float,
        high: float,
        step: float,
        unit: str,
        on_change: Callable[[float], object],
        tip: str = "",
        *,
        factor: float = 1.0,
    ) -> None:
        super().__init__()
        self._low, self._step, self._unit, self._factor, self._on_change = low, step, unit, factor, on_change
        self._value = low
        self.setToolTip(tip)
        self._slider = _Slider(Qt.Orientation.Horizontal)
        self._slider.setRange(0, round((high - low) / step))
        self._slider.setAccessibleName(text)
        self._slider.valueChanged.connect(self._moved)
        self._field = QLineEdit()
        self._field.setFixedWidth(self.FIELD_PX)
        self._field.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._field.setAccessibleName(text)
        self._field.editingFinished.connect(self._typed)
        self._high = high
        top = QHBoxLayout()
        top.addWidget(label(text))
        top.addStretch()
        top.addWidget(self._field)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.SPACE_S)
        column.addLayout(top)
        column.addWidget(self._slider)
        self._write()

    def set_value(self, value: float) -> None:
        """Show a number without telling anybody."""
        if value == self._value:
            return
        self._value = value
        self._slider.setValue(round((value - self._low) / self._step))
        self._write()

    def set_range(self, low: float, high: float) -> None:
        """Let it go from another number to another, without telling anybody."""
        if (low, high) != (self._low, self._high):
            self._low, self._high = low, high
            self._value = min(max(self._value, low), high)
            place = round((self._value - low) / self._step)
            self._slider.setRange(0, round((high - low) / self._step))
            self._slider.setValue(place)
            self._write()

    def _moved(self, place: int) -> None:
        if place == round((self._value - self._low) / self._step):
            return  # set_value did it
        self._value = self._low + place * self._step
        self._write()
        self._on_change(self._value)

    def _typed(self) -> None:
        validator = QDoubleValidator()
        text = self._field.text().removesuffix(self._unit).strip()
        if validator.validate(text, 0)[0] == QDoubleValidator.State.Acceptable:
            value = min(self._high, max(self._low, float(text.replace(",", "")) / self._factor))
            if value != self._value:
                self.set_value(value)
                self._on_change(value)
        self._write()

    def _write(self) -> None:
        self._field.setText(f"{self._value * self._factor:.6g} {self._unit}".strip())


class Section(QWidget):
    """A heading that folds what is below it; ``body`` is the layout to fill."""

    def __init__(self, title: str, *, is_open: bool = True) -> None:
        super().__init__()
        self._head = QToolButton()
        self._head.setProperty("kind", "section")
        self._head.setText(title)
        self._head.setAccessibleName(title)
        self._head.setCheckable(True)
        self._head.setChecked(is_open)
        self._head.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._head.setIconSize(QSize(12, 12))
        self._head.toggled.connect(self._fold)
        self._inside = QWidget()
        self.body = QVBoxLayout(self._inside)
        self.body.setContentsMargins(0, 0, 0, theme.SPACE)
        self.body.setSpacing(theme.SPACE)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._head)
        column.addWidget(self._inside)
        self._fold(is_open)
        follow(self, theme.changed, self._draw)

    def set_open(self, is_open: bool) -> None:
        """Unfold or fold it."""
        self._head.setChecked(is_open)

    def _fold(self, is_open: bool) -> None:
        self._inside.setVisible(is_open)
        self._draw()

    def _draw(self) -> None:
        self._head.setIcon(theme.icon("caret-down" if self._head.isChecked() else "caret-right", "muted"))


class Elided(QLabel):
    """A muted sentence on a few lines that ends in an ellipsis where it has no room; its tooltip is the whole."""

    def __init__(self, lines: int = 1) -> None:
        super().__init__()
        self._lines = lines
        self.setFont(theme.font("small"))

    def minimumSizeHint(self) -> QSize:
        """Ask for no width."""
        return QSize(0, self._lines * self.fontMetrics().height())

    def sizeHint(self) -> QSize:
        """Ask for the lines it may have."""
        return QSize(super().sizeHint().width(), self._lines * self.fontMetrics().height())

    def say(self, text: str) -> None:
        """Change what it says."""
        if text != self.text():
            self.setText(text)
            self.setToolTip(text)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw as much as there is room for."""
        painter = QPainter(self)
        painter.setPen(theme.colours().muted)
        painter.setFont(self.font())
        flags = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft | Qt.TextFlag.TextWordWrap
        painter.drawText(self.rect(), flags, self._fitting(flags))

    def _fitting(self, flags: int) -> str:
        """Return as many words as fit, or, on one line, as many letters."""
        metrics, room = self.fontMetrics(), self._lines * self.fontMetrics().height() + 1
        if self._lines == 1:
            return metrics.elidedText(self.text(), Qt.TextElideMode.ElideRight, self.width())
        words, shown = self.text().split(" "), self.text()
        while words and metrics.boundingRect(0, 0, self.width(), 1 << 20, flags, shown).height() > room:
            words.pop()
            shown = " ".join(words).rstrip(",;:") + "…"
        return shown


class Choice(QComboBox):
    """A few words to choose from; the first stands for what is settled. The wheel scrolls the form, not the choice."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to what is around."""
        event.ignore()


def clear(layout: QLayout) -> None:
    """Take everything out of a layout and destroy its widgets."""
    while (item := layout.takeAt(0)) is not None:
        if widget := item.widget():
            widget.hide()
            widget.deleteLater()
        elif inner := item.layout():
            clear(inner)
