"""What is looked for: one picture, large, on which a box can be drawn, or several as a row of small ones.

It draws the question that the session remembers, and changes it by ``Session.choose``; ``search`` searches.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtWidgets import QCheckBox, QComboBox, QFileDialog, QFrame, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.asked import COUNTS, Asked, Box, Picture, asked_of, asking, name_of, of_files
from dinoviz.controls import Hint, Line, Segmented, clear, label
from dinoviz.desk import Desk
from dinoviz.watching import watch
from dinoviz.widgets.flow import Flow
from dinoviz.widgets.picture.canvas import PictureCanvas
from dinoviz.widgets.picture.large import read_pyramid
from dinoviz.widgets.picture.tile import PictureTile, TileLook
from dinoviz.words import counted, tr
from engine.errors import UnreadablePicture
from engine.sets import short_name

WIDTH_PX = 296
CANVAS_PX = 252
CHIP_PX = 58
SET_PX = 134
"""Of the words about a set that a box of choices has room for."""
LEAST_BOX_PX = 4.0
"""Sides of a box in the picture's pixels below which it was a slip of the mouse."""
ENDINGS = [
    "jpg",
    "jpeg",
    "png",
    "webp",
    "tif",
    "tiff",
    "bmp",
    "gif",
    "avif",
    "heic",
    "heif",
    "jp2",
    "psd",
    "qoi",
    "pgm",
    "ppm",
]
"""Of pictures, for the file picker; anything else can be chosen with all files."""
PASTED = "pasted"
"""Folder in the project's cache for pictures that came without a file."""


class QueryArea(QFrame):
    """The question, and what can be changed about it."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._session = desk.session
        self._shown: Picture | None = None
        self._chips: tuple[Picture, ...] = ()
        self.setProperty("kind", "panel")
        self.setFixedWidth(WIDTH_PX)
        self._build()
        watch(self, self._session, ("choices.find", "table"), self._draw)
        watch(self, self._session, ("sets", "set"), self._draw_sets)
        watch(self, self._session, ("shown", "query"), self._draw_among)
        self._show_picture(None)
        self._draw()
        self._draw_sets()
        self._draw_among()

    # Layout

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(theme.SPACE_L, theme.SPACE, theme.SPACE_L, theme.SPACE_L)
        column.setSpacing(theme.SPACE)
        column.addLayout(self._head())
        self._canvas = PictureCanvas()
        self._canvas.setFixedHeight(CANVAS_PX)
        self._canvas.setAccessibleName(tr("Picture that is looked for"))
        self._canvas.set_tool("box")
        self._canvas.box_drawn.connect(self._box_drawn)
        column.addWidget(self._canvas)
        self._name = label("", "strong")
        self._name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._hint = Hint("")
        column.addWidget(self._name)
        column.addWidget(self._hint)
        self._strip = QWidget()
        self._flow = Flow(self._strip)
        column.addWidget(self._strip)
        self._how = Segmented(
            [("mean", tr("Like all of them")), ("any", tr("Like any of them"))],
            self._choose_how,
            tr("How several count"),
        )
        self._how.set_tip("mean", tr("Near to what the pictures have in common."))
        self._how.set_tip("any", tr("Near to one of the pictures at least."))
        column.addWidget(self._how)
        column.addWidget(Line())
        column.addLayout(self._settings())
        column.addStretch()

    def _head(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(0)
        row.addWidget(label(tr("Looking for"), "heading"))
        row.addStretch()
        actions = self._desk.actions
        for name in ("find.use_current", "find.choose_file", "find.paste", "find.clear"):
            row.addWidget(actions.button(name))
        return row

    def _settings(self) -> QVBoxLayout:
        column = QVBoxLayout()
        column.setSpacing(theme.SPACE)
        self._most = QComboBox()
        self._most.setAccessibleName(tr("Number of results"))
        for count in COUNTS:
            self._most.addItem(f"{count:,}", count)
        self._most.activated.connect(lambda place: self._choose(most=COUNTS[place]))
        self._set = QComboBox()
        self._set.setAccessibleName(tr("Features to find by"))
        self._set.setToolTip(tr("The features that likeness is measured by: which backbone saw the pictures, and how."))
        self._set.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._set.activated.connect(lambda place: self._session.use_set(self._set.itemData(place)))
        for text, control in ((tr("Results"), self._most), (tr("Features"), self._set)):
            row = QHBoxLayout()
            name = label(text)
            name.setFixedWidth(72)
            row.addWidget(name)
            row.addWidget(control, 1)
            column.addLayout(row)
        self._among = QCheckBox()
        self._among.setToolTip(tr("Show only results that the filter of the Library lets through."))
        self._among.clicked.connect(lambda is_on: self._choose(is_among_shown=is_on))
        column.addWidget(self._among)
        return column

    # What the person does

    def _choose(self, **settings: Any) -> None:
        self._session.set_choices("find", **settings)

    def ask(self, asked: Asked) -> None:
        """Look for something else."""
        self._session.choose(find=asking(self._session.state.choices.find, asked))

    def asked(self) -> Asked:
        """Return what is looked for."""
        return asked_of(self._session.state.choices.find).known(self._session.state.table)

    def box_share(self) -> Box | None:
        """Return the part that is looked for, as shares of its picture; None for none, or while that is not read."""
        asked, picture = self.asked(), self._canvas.picture
        if asked.box is None or picture is None:
            return None
        height, width = picture.size
        top, left, bottom, right = asked.box
        return top / height, left / width, bottom / height, right / width

    def _choose_how(self, how: str) -> None:
        self.ask(replace(self.asked(), how=how))  # type: ignore[arg-type]

    def _box_drawn(self, box: QRectF) -> None:
        if min(box.width(), box.height()) < LEAST_BOX_PX:
            self._canvas.set_box(QRectF())
            self.ask(replace(self.asked(), box=None))
            return
        self.ask(replace(self.asked(), box=(box.top(), box.left(), box.bottom(), box.right())))

    def choose_file(self) -> None:
        """Let the person pick pictures from the disk."""
        patterns = " ".join(f"*.{ending}" for ending in ENDINGS)
        dialog = QFileDialog(self.window(), tr("Look for a picture"))
        dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
        dialog.setNameFilters([tr("Pictures") + f" ({patterns})", tr("All files") + " (*)"])
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.filesSelected.connect(self._take_files)
        dialog.open()

    def _take_files(self, files: Sequence[str]) -> None:
        pictures = of_files([Path(file) for file in files], self._session.state.table)
        if pictures:
            self.ask(Asked(pictures=pictures))

    def paste(self) -> None:
        """Look for what was copied: files, or an image, which is kept in the project's cache."""
        mime = QGuiApplication.clipboard().mimeData()
        files = [url.toLocalFile() for url in mime.urls() if url.isLocalFile()]
        if files:
            self._take_files(files)
        elif mime.hasImage():
            self._take_image(QImage(mime.imageData()))
        else:
            self._session.notify("info", tr("There is no picture in the clipboard."), tr("Copy one first."))

    def _take_image(self, image: QImage) -> None:
        project = self._session.state.project
        if project is None or image.isNull():
            return

        def work() -> str:
            digest = blake2b(bytes(image.constBits()), digest_size=8).hexdigest()
            path = project / "cache" / PASTED / f"{digest}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not image.save(str(path)):
                raise OSError(path)
            return str(path)

        def take(path: str) -> None:
            if self._session.state.project == project:
                self.ask(Asked(pictures=(path,)))

        def failed(_problem: Exception) -> None:
            self._session.notify("error", tr("The copied picture could not be kept."), str(project))

        self._desk.background.run("find.paste", work, take, failed)

    # What is drawn

    def _draw(self) -> None:
        choices, asked = self._session.state.choices.find, self.asked()
        first = asked.pictures[0] if asked.pictures else None
        self.setEnabled(self._session.state.project is not None)
        if first != self._shown:
            self._shown = first
            self._show_picture(first)
        box = QRectF()
        if asked.box is not None:
            top, left, bottom, right = asked.box
            box = QRectF(left, top, right - left, bottom - top)
        if box != self._canvas.box:
            self._canvas.set_box(box)
        self._draw_words(asked)
        self._draw_strip(asked)
        if self._most.currentData() != choices.most:
            self._most.setCurrentIndex(self._most.findData(choices.most))
        if self._among.isChecked() != choices.is_among_shown:
            self._among.setChecked(choices.is_among_shown)

    def _draw_words(self, asked: Asked) -> None:
        n = len(asked.pictures)
        name = name_of(asked.pictures[0], self._session.state.table) if n == 1 else ""
        metrics = self._name.fontMetrics()
        text = counted(n, tr("picture")) if n > 1 else name
        self._name.setText(metrics.elidedText(text, Qt.TextElideMode.ElideMiddle, WIDTH_PX - 2 * theme.SPACE_L))
        self._name.setVisible(n > 0)
        if n > 1:
            self._hint.setText(tr("Only one picture can be looked for by a part."))
        elif asked.is_part:
            self._hint.setText(tr("Looking for what is in the box. Move or draw it anew; Esc takes it away."))
        elif n:
            self._hint.setText(tr("Draw a box to look for a part of it: a logo, a pocket, a face."))
        else:
            self._hint.setText(tr("Drop a picture here, paste one, or choose one of yours."))

    def _draw_strip(self, asked: Asked) -> None:
        pictures = asked.pictures if len(asked.pictures) > 1 else ()
        self._how.setVisible(bool(pictures))
        self._how.set_value(asked.how)
        self._strip.setVisible(bool(pictures))
        self._canvas.setVisible(not pictures)
        if pictures == self._chips:
            return
        self._chips = pictures
        clear(self._flow)
        for picture in pictures:
            chip = PictureTile(self._desk, CHIP_PX, 0)
            name = name_of(picture, self._session.state.table)
            chip.set_look(
                TileLook(
                    picture, name=tr("Take away {name}", name=name), tip=tr("{name}\nPress to take it away", name=name)
                )
            )
            chip.pressed.connect(lambda _second, picture=picture: self.ask(self.asked().without(picture)))
            self._flow.addWidget(chip)
        self._strip.updateGeometry()

    def _show_picture(self, picture: Picture | None) -> None:
        self._canvas.view.fit()
        if picture is None:
            self._desk.background.forget("find.picture")
            self._canvas.set_picture(None, tr("No picture yet"))
            return
        table = self._session.state.table
        path = table.file(picture) if isinstance(picture, int) else Path(picture)

        def failed(problem: Exception) -> None:
            if not isinstance(problem, UnreadablePicture):
                raise problem
            self._canvas.set_picture(None, tr("Cannot be read: {problem}", problem=problem.message))

        self._desk.background.run("find.picture", lambda: read_pyramid(path), self._canvas.set_picture, failed)

    def _draw_sets(self) -> None:
        state = self._session.state
        if [row.number for row in state.sets] != [self._set.itemData(i) for i in range(self._set.count())]:
            self._set.clear()
            metrics = self._set.fontMetrics()
            for row in state.sets:
                text = f"{row.number} · {short_name(row.model)}" + (tr(" · parts") if row.has_patches else "")
                self._set.addItem(metrics.elidedText(text, Qt.TextElideMode.ElideMiddle, SET_PX), row.number)
                self._set.setItemData(self._set.count() - 1, row.about, Qt.ItemDataRole.ToolTipRole)
        self._set.setCurrentIndex(self._set.findData(state.set))
        self._set.setEnabled(len(state.sets) > 1)

    def _draw_among(self) -> None:
        state = self._session.state
        text = (
            tr("Only among the {n} shown", n=len(state.shown))
            if state.query.is_filter
            else tr("Only what the filter shows")
        )
        self._among.setText(text)
        self._among.setAccessibleName(text)
        self._among.setEnabled(state.query.is_filter or state.choices.find.is_among_shown)

    def sizeHint(self) -> QSize:
        """Ask for one width."""
        return QSize(WIDTH_PX, 560)
