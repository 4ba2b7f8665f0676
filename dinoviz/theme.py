"""Colours, type, spacing and icons: decided once, here, for light and dark.

The style is Qt's Fusion with a palette of ours; a short style sheet, made from the same colours, shapes the controls.
Light or dark follows the system, live, unless the person chose one.
"""

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal
from PySide6.QtCore import QByteArray, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QIcon, QIconEngine, QPainter, QPalette, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication

from dinoviz.palette import distinct_colours

RESOURCES = Path(__file__).resolve().parents[1] / "resources"

SPACE_S, SPACE, SPACE_L, SPACE_XL = 4, 8, 16, 24
"""Steps of the grid all things lie on, px."""
RADIUS = 6
ICON_PX = 18
ROW_PX = 28
"""Height of a control."""

Mode = Literal["system", "light", "dark"]
Role = Literal["title", "heading", "body", "strong", "small", "number"]

_SIZES_PX: dict[Role, int] = {"title": 20, "heading": 14, "body": 13, "strong": 13, "small": 12, "number": 12}
_WEIGHTS: dict[Role, QFont.Weight] = {
    "title": QFont.Weight.DemiBold,
    "heading": QFont.Weight.DemiBold,
    "strong": QFont.Weight.Medium,
}
_FAMILY = "Inter"

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#999999")
"""Told apart by colour-blind people too. Source: Okabe and Ito 2008, Color Universal Design."""


@dataclass(frozen=True, slots=True)
class Colours:
    """What is painted with what.

    Text on ``window``, ``panel`` and ``raised`` has a contrast of at least 4.5 to 1 for ``text`` and ``muted``, 3 to 1
    for ``faint``, which is for icons and large marks (WCAG 2.1).
    """

    window: QColor
    panel: QColor
    raised: QColor
    canvas: QColor
    line: QColor
    text: QColor
    muted: QColor
    faint: QColor
    accent: QColor
    accent_text: QColor
    accent_soft: QColor
    selection: QColor
    danger: QColor
    warning: QColor
    good: QColor


def _colours(*names: str) -> Colours:
    return Colours(*(QColor(name) for name in names))


LIGHT = _colours(
    "#F4F5F7", "#FBFBFC", "#FFFFFF", "#E9EBEF", "#DADDE3", "#1B1F27", "#5A6270", "#7B8391",
    "#2A62D8", "#FFFFFF", "#DFE8FB", "#C5D6FA", "#B42318", "#8A5300", "#14713D",
)  # fmt: skip
DARK = _colours(
    "#17191D", "#1D2025", "#272B31", "#111316", "#343941", "#E7E9ED", "#A0A8B5", "#7A8291",
    "#6C9CFF", "#0C1220", "#25345A", "#30477F", "#FF8A80", "#F2B84B", "#5CC98B",
)  # fmt: skip


class _Theme:
    """What is in use now, and who wants to hear of a change."""

    changed = Signal()

    def __init__(self) -> None:
        self.mode: Mode = "system"
        self.colours = LIGHT


_theme = _Theme()
changed = _theme.changed
"""Emitted after light and dark changed places."""


def colours() -> Colours:
    """Return the colours in use."""
    return _theme.colours


def is_dark() -> bool:
    """Tell whether the dark colours are in use."""
    return _theme.colours is DARK


def install(application: QApplication, mode: Mode = "system") -> None:
    """Give an application its style, font and colours, and follow the system's light and dark from now on."""
    application.setStyle("Fusion")
    _load_fonts()
    application.setFont(font("body"))
    QGuiApplication.styleHints().colorSchemeChanged.connect(lambda _scheme: use(_theme.mode))
    use(mode)


def use(mode: Mode) -> None:
    """Take light or dark colours, or the system's."""
    _theme.mode = mode
    scheme = QGuiApplication.styleHints().colorScheme()
    wants_dark = mode == "dark" or (mode == "system" and scheme == Qt.ColorScheme.Dark)
    _theme.colours = DARK if wants_dark else LIGHT
    icon.cache_clear()
    application = QApplication.instance()
    assert isinstance(application, QApplication)
    application.setPalette(_palette(_theme.colours))
    application.setStyleSheet(_style_sheet(_theme.colours))
    changed.emit()


@cache
def _load_fonts() -> None:
    for path in sorted((RESOURCES / "fonts").glob("*.otf")):
        QFontDatabase.addApplicationFont(str(path))


def font(role: Role = "body") -> QFont:
    """Return the font of a role; numbers have digits of one width."""
    made = QFont(_FAMILY)
    made.setPixelSize(_SIZES_PX[role])
    made.setWeight(_WEIGHTS.get(role, QFont.Weight.Normal))
    if role == "number":
        made.setFeature(QFont.Tag("tnum"), 1)
    return made


class _SvgEngine(QIconEngine):
    """Paints an icon in a colour, sharp at any scale; dimmed where it is disabled."""

    DIMMED = 0.38  # opacity of what cannot be used now, as Material Design 3 has it

    def __init__(self, svg: bytes, colour: QColor) -> None:
        super().__init__()
        self._svg, self._colour = svg, colour

    def paint(self, painter: QPainter, rect: "object", mode: QIcon.Mode, _state: QIcon.State) -> None:
        colour = colours().accent if mode == QIcon.Mode.Selected else self._colour
        renderer = QSvgRenderer(QByteArray(self._svg.replace(b"currentColor", colour.name().encode())))
        painter.save()
        painter.setOpacity(painter.opacity() * (self.DIMMED if mode == QIcon.Mode.Disabled else 1.0))
        renderer.render(painter, QRectF(rect))  # type: ignore[call-overload]
        painter.restore()

    def pixmap(self, size: "object", mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        made = QPixmap(size)  # type: ignore[call-overload]
        if made.isNull():  # of a button that has no room
            return made
        made.fill(Qt.GlobalColor.transparent)
        painter = QPainter(made)
        self.paint(painter, made.rect(), mode, state)
        painter.end()
        return made

    def clone(self) -> QIconEngine:
        return _SvgEngine(self._svg, self._colour)


@cache
def _svg(name: str) -> bytes:
    return (RESOURCES / "icons" / f"{name}.svg").read_bytes()


@cache
def icon(name: str, colour: str = "") -> QIcon:
    """Return an icon of ``resources/icons`` in a colour; in that of text where none is said.

    Args:
        name: of the file, without its ending; ``packaging/icons.txt`` lists all.
        colour: a field of ``Colours``, or anything that QColor reads.
    """
    known = {field.name for field in fields(Colours)}
    made = getattr(colours(), colour) if colour in known else QColor(colour) if colour else colours().text
    return QIcon(_SvgEngine(_svg(name), made))


def category_colours(n: int) -> NDArray[np.uint8]:
    """Return n colours for categories, uint8 (n, 3): seven of Okabe and Ito, then each as far as can be from the rest."""
    return distinct_colours(n, on_dark=is_dark()).copy()


def _palette(c: Colours) -> QPalette:
    made = QPalette()
    role, group = QPalette.ColorRole, QPalette.ColorGroup
    for which, colour in (
        (role.Window, c.window), (role.WindowText, c.text), (role.Base, c.raised), (role.AlternateBase, c.panel),
        (role.Text, c.text), (role.Button, c.raised), (role.ButtonText, c.text), (role.BrightText, c.danger),
        (role.Highlight, c.accent), (role.HighlightedText, c.accent_text), (role.Link, c.accent),
        (role.ToolTipBase, c.raised), (role.ToolTipText, c.text), (role.PlaceholderText, c.muted),
        (role.Mid, c.line), (role.Dark, c.line), (role.Light, c.raised), (role.Midlight, c.panel),
        (role.Shadow, c.line), (role.Accent, c.accent),
    ):  # fmt: skip
        made.setColor(which, colour)
    for which in (role.Text, role.ButtonText, role.WindowText):
        made.setColor(group.Disabled, which, c.faint)
    return made


def _style_sheet(c: Colours) -> str:
    """Return the sheet that shapes controls; everything else is Fusion with the palette."""
    names = {field.name: getattr(c, field.name).name() for field in fields(Colours)}
    sheet = """
* { outline: none; }
QToolTip { background: @raised; color: @text; border: 1px solid @line; padding: 6px 8px; }
QLabel[kind="title"] { font-size: 20px; font-weight: 600; }
QLabel[kind="heading"] { font-size: 14px; font-weight: 600; }
QLabel[kind="strong"] { font-weight: 500; }
QLabel[kind="muted"] { color: @muted; }
QLabel[kind="small"] { color: @muted; font-size: 12px; }
QLabel[kind="danger"] { color: @danger; }
QLabel[kind="warning"] { color: @warning; }
QLabel[kind="good"] { color: @good; }
QLabel[kind="chip"] { background: @raised; border: 1px solid @line; border-radius: 10px; padding: 1px 8px; font-size: 12px; }
QFrame[kind="panel"], QWidget[kind="panel"] { background: @panel; border: none; }
QFrame[kind="card"] { background: @raised; border: 1px solid @line; border-radius: 8px; }
QFrame[kind="card"][hot="true"] { border-color: @accent; }
QFrame[kind="bar"] { background: @panel; border: none; }
QFrame[kind="line"] { background: @line; border: none; max-height: 1px; min-height: 1px; }
QFrame[kind="upright-line"] { background: @line; border: none; max-width: 1px; min-width: 1px; }
QScrollArea, QScrollArea > QWidget > QWidget[kind="plain"] { background: transparent; border: none; }
QPushButton { background: @raised; border: 1px solid @line; border-radius: 6px; padding: 4px 12px; min-height: 18px; }
QPushButton:hover { border-color: @faint; }
QPushButton:pressed { background: @window; }
QPushButton:focus { border-color: @accent; }
QPushButton:disabled { color: @faint; background: @panel; }
QPushButton:checked { background: @accent_soft; border-color: @accent; }
QPushButton[kind="primary"] { background: @accent; color: @accent_text; border-color: @accent; font-weight: 600; }
QPushButton[kind="primary"]:hover { border-color: @text; }
QPushButton[kind="primary"]:disabled { background: @line; color: @muted; border-color: @line; }
QPushButton[kind="quiet"] { background: transparent; border-color: transparent; }
QPushButton[kind="quiet"]:hover { background: @raised; border-color: @line; }
QPushButton[kind="quiet"]:focus { border-color: @accent; }
QPushButton[kind="link"] { background: transparent; border: none; color: @accent; padding: 0; text-align: left; }
QPushButton[kind="link"]:hover, QPushButton[kind="link"]:focus { text-decoration: underline; }
QPushButton[kind="danger"] { color: @danger; }
QToolButton { background: transparent; border: 1px solid transparent; border-radius: 6px; padding: 4px; }
QToolButton:hover { background: @raised; border-color: @line; }
QToolButton:checked { background: @accent_soft; border-color: @accent_soft; }
QToolButton:pressed { background: @selection; }
QToolButton:focus { border-color: @accent; }
QToolButton::menu-indicator { image: none; }
QToolButton[kind="rail"] { border-radius: 8px; padding: 6px 2px; font-size: 12px; color: @muted; }
QToolButton[kind="rail"]:hover { color: @text; }
QToolButton[kind="rail"]:checked { color: @text; background: @accent_soft; }
QToolButton[kind="segment"] { border-radius: 5px; padding: 3px 8px; color: @muted; }
QToolButton[kind="segment"]:checked { background: @raised; color: @text; border-color: @line; }
QFrame[kind="segments"] { background: @window; border: 1px solid @line; border-radius: 7px; }
QToolButton[kind="section"] { font-weight: 600; border: none; padding: 4px 0; text-align: left; }
QToolButton[kind="section"]:checked, QToolButton[kind="section"]:hover { background: transparent; }
QToolButton[kind="section"]:focus { color: @accent; }
QLineEdit, QSpinBox, QDoubleSpinBox, QComboBox, QPlainTextEdit, QTextEdit {
  background: @raised; border: 1px solid @line; border-radius: 6px; padding: 3px 8px; min-height: 20px;
  selection-background-color: @accent; selection-color: @accent_text; }
QLineEdit:focus, QSpinBox:focus, QDoubleSpinBox:focus, QComboBox:focus, QPlainTextEdit:focus, QTextEdit:focus { border-color: @accent; }
QLineEdit[wrong="true"] { border-color: @danger; }
QLineEdit:disabled, QComboBox:disabled { color: @faint; background: @panel; }
QComboBox::drop-down { border: none; width: 22px; }
QComboBox::down-arrow { image: url(@arrow); width: 12px; height: 12px; }
QComboBox QAbstractItemView { background: @raised; border: 1px solid @line; selection-background-color: @accent_soft; selection-color: @text; padding: 4px; }
QCheckBox, QRadioButton { spacing: 8px; }
QCheckBox:focus, QRadioButton:focus { color: @accent; }
QCheckBox::indicator { width: 14px; height: 14px; border: 1px solid @faint; border-radius: 4px; background: @raised; }
QCheckBox::indicator:checked { background: @accent; border-color: @accent; image: url(@tick); }
QCheckBox::indicator:disabled { border-color: @line; }
QSlider { min-height: 20px; }
QSlider::groove:horizontal { height: 4px; border-radius: 2px; background: @line; }
QSlider::sub-page:horizontal { background: @accent; border-radius: 2px; }
QSlider::handle:horizontal { background: @raised; border: 2px solid @accent; width: 12px; height: 12px; margin: -6px 0; border-radius: 8px; }
QSlider::handle:horizontal:focus { background: @accent; }
QSlider::sub-page:horizontal:disabled, QSlider::handle:horizontal:disabled { background: @line; border-color: @line; }
QProgressBar { background: @line; border: none; border-radius: 2px; max-height: 4px; min-height: 4px; color: transparent; }
QProgressBar::chunk { background: @accent; border-radius: 2px; }
QMenu { background: @raised; border: 1px solid @line; border-radius: 8px; padding: 4px; }
QMenu::item { padding: 5px 24px 5px 12px; border-radius: 5px; }
QMenu::item:selected { background: @accent_soft; color: @text; }
QMenu::item:disabled { color: @faint; }
QMenu::separator { height: 1px; background: @line; margin: 4px 8px; }
QScrollBar:vertical { background: transparent; width: 12px; margin: 0; }
QScrollBar:horizontal { background: transparent; height: 12px; margin: 0; }
QScrollBar::handle { background: @line; border-radius: 4px; margin: 2px; }
QScrollBar::handle:vertical { min-height: 32px; }
QScrollBar::handle:horizontal { min-width: 32px; }
QScrollBar::handle:hover { background: @faint; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }
QListView, QTreeView, QTableView { background: @raised; border: 1px solid @line; border-radius: 6px; alternate-background-color: @panel; }
QListView[kind="plain"], QTreeView[kind="plain"], QTableView[kind="plain"] { background: transparent; border: none; }
QListView::item, QTreeView::item { padding: 4px; border-radius: 4px; }
QListWidget::item { min-height: 20px; }
QTableView::item { padding: 0 5px; }
QListView::item:selected, QTreeView::item:selected, QTableView::item:selected { background: @accent_soft; color: @text; }
QHeaderView::section { background: @panel; border: none; border-bottom: 1px solid @line; padding: 4px 8px; color: @muted; }
QSplitter::handle { background: @line; }
QSplitter::handle:horizontal { width: 1px; }
QSplitter::handle:vertical { height: 1px; }
QTabBar::tab { padding: 6px 12px; color: @muted; border: none; border-bottom: 2px solid transparent; }
QTabBar::tab:selected { color: @text; border-bottom-color: @accent; }
"""
    names |= {drawn: _drawn(drawn, c).as_posix() for drawn in ("arrow", "tick")}
    for name in sorted(names, key=len, reverse=True):
        sheet = sheet.replace(f"@{name}", names[name])
    return sheet


def _drawn(name: str, c: Colours) -> Path:
    """Return a picture for the sheet, which takes such from files only, and cannot colour them."""
    return RESOURCES / "icons" / f"sheet-{name}-{'dark' if c is DARK else 'light'}.svg"
