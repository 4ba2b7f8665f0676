"""The Map: all pictures of a set laid out so that those that are alike lie together.

What is read is read in the background; the canvas knows pictures by their row in the project's table. Colours, the
filter, the selection, the current picture and the one under the mouse are the session's.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QTimer
from PySide6.QtGui import QHideEvent, QImage, QShowEvent
from PySide6.QtWidgets import QFileDialog, QFrame, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.choices import MapChoices
from dinoviz.controls import Line, button, label
from dinoviz.desk import Desk
from dinoviz.model_names import model_text
from dinoviz.session import How, State
from dinoviz.table import Ids, PictureTable, no_ids
from dinoviz.views.map.bar import METHODS, MapBar
from dinoviz.views.map.class_panel import ClassPanel
from dinoviz.views.map.drawing import MapDrawing
from dinoviz.views.map.empty import MapEmpty
from dinoviz.views.map.mixing import Mixing, mixing
from dinoviz.views.map.panel import MapPanel
from dinoviz.views.map.selecting import MapSelecting
from dinoviz.views.map.sheet import Sheet
from dinoviz.views.map.taking_away import Seen, copy, legend_keys, save
from dinoviz.views.map.work import MapWork, is_tsne, sentence, working
from dinoviz.watching import follow, watch
from dinoviz.widgets.scatter.canvas import ScatterCanvas
from dinoviz.widgets.scatter.colouring import MOST_COLOURS
from dinoviz.widgets.scatter.hover_card import PICTURE_PX, HoverCard
from dinoviz.widgets.scatter.paint import Place
from dinoviz.widgets.scatter.reading import (
    ClassMapData,
    MapKey,
    MapRead,
    PictureMapData,
    read_map_again,
    read_so_far,
    so_far_stamp,
    stamps,
)
from dinoviz.words import counted, tr

LOOK_AGAIN_MS = 400  # between two looks at whether a t-SNE that is being made has moved on
ARRIVED_MS = 30  # in which thumbnails that came are drawn together
CLASS_PX, CLASS_MARGIN = 84, 0.14  # side of a class's picture, and room around the map for it
REMEMBER_MS = 600  # after the last movement, when what is seen is remembered
METHOD_NAMES = {value: name for value, name, _ in METHODS}


class MapView(QWidget):
    """The map, its tools and its legend."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk, self._session = desk, desk.session
        self._work, self._selecting = MapWork(desk), MapSelecting(desk)
        self._known: tuple[MapKey, PictureTable] | None = None
        self._classes: ClassMapData | None = None
        self._mixing: Mixing | None = None
        self._mixing_of: tuple[Any, ...] | None = None
        self._there: frozenset[str] = frozenset()
        self._is_read = False
        self._drawn_choices = MapChoices()
        self._so_far_stamp = 0
        self._is_so_far = False
        self._has_been_seen = False
        self._project: Path | None = None
        self._card_of = -1
        self._build()
        self._timers()
        self._bind()
        self._watch()
        self._chosen()
        self._read()

    # Parts

    def _build(self) -> None:
        self.canvas = ScatterCanvas()
        self.canvas.picture = self._picture
        self.class_canvas = ScatterCanvas()
        self.class_canvas.picture = self._class_picture
        self.class_canvas.caption = self._class_caption
        self.class_canvas.set_thumbnails("always")
        self.class_canvas.thumbnails.side_px, self.class_canvas.camera.margin = CLASS_PX, CLASS_MARGIN
        self.class_canvas.setAccessibleName(tr("Map of classes"))
        self.empty = MapEmpty(self._make)
        self._stack = QStackedWidget()
        for part in (self.canvas, self.class_canvas, self.empty):
            self._stack.addWidget(part)
        self._stack.setCurrentWidget(self.empty)
        self._card = HoverCard(self.canvas)
        self.panel = MapPanel(lambda by: self._choose(by=by), self._find_clusters)
        self.class_panel = ClassPanel(self._selecting.mixed, self._work.find_neighbours)
        self.class_panel.legend.picked.connect(
            lambda group, is_toggle: self._select_named(group.text, "toggle" if is_toggle else "replace")
        )
        self.class_panel.legend.pointed.connect(
            lambda group: self.class_canvas.set_emphasis(group.code if group else -1)
        )
        self.drawing = MapDrawing(self._desk, self.canvas, self.panel.legend, self._coloured)
        self.bar = MapBar(self._desk, self._choose)
        self._status = label("", "small")
        self._note = label("", "small")
        self._update_button = button(tr("Update"), self._press_note, kind="link")
        status = QFrame()
        status.setProperty("kind", "bar")
        row = QHBoxLayout(status)
        row.setContentsMargins(theme.SPACE_L - 4, theme.SPACE_S, theme.SPACE_L - 4, theme.SPACE_S)
        row.addWidget(self._status, 1)
        row.addWidget(self._note)
        row.addWidget(self._update_button)
        middle = QHBoxLayout()
        middle.setSpacing(0)
        middle.addWidget(self._stack, 1)
        self._panel_line = Line(is_upright=True)
        middle.addWidget(self._panel_line)
        middle.addWidget(self.panel)
        middle.addWidget(self.class_panel)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.bar)
        column.addWidget(Line())
        column.addLayout(middle, 1)
        column.addWidget(Line())
        column.addWidget(status)
        self.setFocusProxy(self.canvas)

    def _timers(self) -> None:
        self._look_again = QTimer(self, interval=LOOK_AGAIN_MS)
        self._look_again.timeout.connect(self._look_for_progress)
        self._arrived = QTimer(self, interval=ARRIVED_MS, singleShot=True)
        self._arrived.timeout.connect(self._draw_arrived)
        self._remember = QTimer(self, interval=REMEMBER_MS, singleShot=True)
        self._remember.timeout.connect(self._remember_view)

    def _watch(self) -> None:
        session = self._session
        watch(self, session, ("project", "set", "sets", "table"), self._read)
        watch(self, session, ("choices.map",), self._chosen)
        watch(self, session, ("table", "marks", "set", "current"), self.drawing.colour)
        watch(self, session, ("shown", "table"), self.drawing.show_filter)
        watch(self, session, ("selected", "table"), self._show_selected)
        watch(self, session, ("current", "table"), self.drawing.show_current)
        watch(self, session, ("hovered",), self._show_hovered)
        watch(self, session, ("query",), self.drawing.show_query)
        watch(self, session, ("query",), lambda: self.class_panel.legend.show_query(self._state.query))
        watch(self, session, ("jobs", "model", "project"), self._show_jobs)
        for canvas in (self.canvas, self.class_canvas):
            canvas.clicked.connect(partial(self._clicked, canvas))
            canvas.selected.connect(partial(self._lassoed, canvas))
            canvas.cleared.connect(self._select_none)
        self.canvas.hovered.connect(self._hover)
        self.canvas.activated.connect(self._activated)
        self.canvas.view_changed.connect(self._moved)
        self._desk.thumbnails.arrived.connect(lambda _picture: self._arrived.start())
        follow(self, theme.changed, self._retint)

    def _bind(self) -> None:
        bind = self._desk.actions.bind
        for tool in ("pan", "lasso", "rectangle", "brush"):
            bind(f"map.{tool}", partial(self._choose, tool=tool))
        bind("map.fit", lambda: self._front.fit(), self._has_map)
        bind("map.current", self._show_me_current, lambda: self._state.current is not None)
        bind("map.density", lambda: self._choose(is_dense=not self._choices.is_dense))
        bind("map.thumbnails", self._toggle_thumbnails)
        bind("map.cluster", self._select_group, lambda: self._state.current is not None)
        bind("map.like", self._selecting.alike, lambda: self._state.current is not None and self._folder is not None)
        bind("map.grow", self._selecting.grow, self._has_selection)
        bind("map.shrink", self._selecting.shrink, self._has_selection)
        bind("map.copy", lambda: copy(self._desk, self._as_seen()), self._has_map)
        bind("map.save_png", partial(self._save, "png"), self._has_map)
        bind("map.save_svg", partial(self._save, "svg"), self._has_map)
        bind("map.make", self._make, lambda: self._state.project is not None and self._work.job is None)
        bind("map.update", self._update, lambda: self._has_map() and self._work.job is None)
        bind("map.again", self._make_again, lambda: self._has_map() and self._work.job is None)
        bind("map.clusters", self._find_clusters, lambda: self._folder is not None and self._work.job is None)

    # What the session says

    @property
    def _state(self) -> State:
        return self._session.state

    @property
    def _choices(self) -> MapChoices:
        return self._state.choices.map

    @property
    def _folder(self) -> Path | None:
        row = self._state.set_row
        return row.folder if row else None

    @property
    def _is_of_classes(self) -> bool:
        return self._choices.method == "classes"

    @property
    def _front(self) -> ScatterCanvas:
        return self.class_canvas if self._is_of_classes else self.canvas

    @property
    def _data(self) -> PictureMapData | ClassMapData | None:
        return self._classes if self._is_of_classes else self.drawing.data

    def _choose(self, **fields: Any) -> None:
        self._session.set_choices("map", **fields)

    def _has_map(self) -> bool:
        return self._stack.currentWidget() is not self.empty

    def _has_selection(self) -> bool:
        return len(self._state.selected) > 0 and self._folder is not None

    def _chosen(self) -> None:
        """Draw as it was chosen; what costs time only where it was changed."""
        before, choices = self._drawn_choices, self._choices
        self._drawn_choices = choices
        for canvas in (self.canvas, self.class_canvas):
            canvas.set_tool(choices.tool)  # type: ignore[arg-type]
        if (before.is_dense, before.has_contours) != (choices.is_dense, choices.has_contours):
            self.canvas.set_density(choices.is_dense, has_contours=choices.has_contours)
        if before.thumbnails != choices.thumbnails:
            self.canvas.set_thumbnails(choices.thumbnails)  # type: ignore[arg-type]
        if before.point_size != choices.point_size:
            self.canvas.set_point_size(choices.point_size)
        if before.hides_others != choices.hides_others:
            self.drawing.show_filter()
        if before.has_names != choices.has_names:
            self.drawing.show_names()
        if before.colour_map != choices.colour_map:
            self.drawing.tint()
        self.drawing.colour()
        self._show_by()
        if before.method != choices.method:
            self._read()
        self._show_state()

    # Reading the map

    def _read(self) -> None:
        """Read the map that is chosen, if it or the pictures have changed."""
        folder, method, table = self._folder, self._choices.method, self._state.table
        if self._state.project != self._project:
            self._project = self._state.project
            self._take_nothing()
        if folder is None or not len(table):
            self._take_nothing()
            return
        known = self._known
        self._desk.background.run(
            "map.data", lambda: read_map_again(folder, method, table, known), partial(self._take, table)
        )

    def _take_nothing(self) -> None:
        self._desk.background.forget("map.data")
        self._known = self._classes = self._mixing = self._mixing_of = None
        self._there, self._is_read = frozenset(), not self._state.is_reading
        self._has_been_seen = self._is_so_far = False
        self.drawing.show(None)
        self.canvas.fit()
        self._show_state()

    def _take(self, table: PictureTable, read: MapRead) -> None:
        """Show what was read; a map that is being made stays until it is there."""
        self._there, self._is_read = read.there, True
        if self._is_of_classes:
            self._take_classes(read.data if isinstance(read.data, ClassMapData) else None)
        elif not read.is_same and not (self._is_so_far and read.data is None and self._work.job is not None):
            self._known, self._is_so_far = (read.key, table), False
            self._take_pictures(read.data if isinstance(read.data, PictureMapData) else None)
        self._show_state()

    def _take_pictures(self, data: PictureMapData | None) -> None:
        self.drawing.show(data)
        self.panel.show_picture_map(data)
        view = self._choices.view
        if data is not None and not self._has_been_seen and len(view) == len(("x", "y", "zoom")):
            self.canvas.see(*(float(part) for part in view))
        self._has_been_seen = self._has_been_seen or data is not None

    def _take_classes(self, data: ClassMapData | None) -> None:
        """Show the classes, in the colours that their labels have on the map of pictures: the largest first."""
        self._classes = data
        self.class_panel.show_map(data)
        if data is None:
            return
        cloud, n = data.cloud, len(data.about.names)
        ranks = np.argsort(np.argsort(-np.array(data.about.counts), kind="stable"))
        colours_K3 = theme.category_colours(min(n, MOST_COLOURS))
        self.class_canvas.set_cloud(cloud, data.layer)
        self.class_canvas.set_colours(np.minimum(ranks, MOST_COLOURS - 1).astype(np.uint8), colours_K3)
        where = zip(cloud.numbers_S.tolist(), cloud.x_S.tolist(), cloud.y_S.tolist(), strict=True)
        self.class_canvas.set_places(
            [Place(data.about.names[number], x, y, data.about.counts[number]) for number, x, y in where]
        )
        self._read_mixing()

    def _read_mixing(self) -> None:
        """Count which classes mix, where labels or neighbours have changed."""
        folder, table = self._folder, self._state.table
        if folder is None or not self._is_of_classes:
            return
        key = (folder, table, stamps(folder, "neighbours"))
        if self._mixing_of is None or any(new != old for new, old in zip(key, self._mixing_of, strict=True)):
            self._mixing_of = key
            self._desk.background.run("map.mixing", lambda: mixing(folder, table), self._take_mixing)

    def _take_mixing(self, found: Mixing | None) -> None:
        self._mixing = found
        self._show_mixing()

    def _show_mixing(self) -> None:
        is_searching = working(self._state.jobs, self._state.project, ("index",)) is not None
        self.class_panel.show_mixing(self._mixing, is_searching=is_searching)

    def _look_for_progress(self) -> None:
        """Show how far a t-SNE that is being made has come."""
        folder, table = self._folder, self._state.table
        if folder is None or self._choices.method != "tsne":
            return
        stamp = so_far_stamp(folder)
        if stamp and stamp != self._so_far_stamp:
            self._so_far_stamp = stamp
            self._desk.background.run("map.so_far", lambda: read_so_far(folder, table), self._take_so_far)

    def _take_so_far(self, data: PictureMapData | None) -> None:
        if data is not None and self._work.job is not None and self._choices.method == "tsne":
            self._is_so_far, self._is_read, self._known = True, True, None
            self._take_pictures(data)
            self._show_state()

    # What is in front

    def _show_state(self) -> None:
        """Show the map, or what there is to do first."""
        front = self._front if self._data is not None and self._folder is not None else self.empty
        if self._stack.currentWidget() is not front:
            self._stack.setCurrentWidget(front)
            self.setFocusProxy(front)
        has_panel = self._choices.has_legend and front is not self.empty
        self.panel.setVisible(has_panel and front is not self.class_canvas)
        self.class_panel.setVisible(has_panel and front is self.class_canvas)
        self._panel_line.setVisible(has_panel)
        self.bar.show_map(is_there=front is not self.empty, of_pictures=front is not self.class_canvas)
        for value, _, tip in METHODS:
            made = "" if value in self._there or self._folder is None else tr("\nNot made yet.")
            self.bar.methods.set_tip(value, tr(tip) + made)
        if front is self.empty:
            self._show_empty()
        self._show_note()
        self._show_status()

    def _show_empty(self) -> None:
        method, state = self._choices.method, self._state
        self.empty.show_state(
            METHOD_NAMES[method],
            method,
            is_read=self._is_read and not state.is_reading,
            has_features=self._folder is not None,
            model=model_text(state.model, state.runs),
            n_labels=len(state.table.label.words),
            job=self._work.job,
        )

    def _show_jobs(self) -> None:
        """Follow a t-SNE while it is being made."""
        job = self._work.job
        if job is not None and is_tsne(job):
            if not self._look_again.isActive():
                self._so_far_stamp = 0
                self._look_again.start()
        elif self._look_again.isActive():
            self._look_again.stop()
            if self._is_so_far:
                self._read()
        self._show_by()
        self._show_mixing()
        if job is None and self._classes is not None:
            self._read_mixing()
        self._show_state()

    def _show_note(self) -> None:
        """Say quietly that the map is being made, or is out of date."""
        job, data = self._work.job, self._data
        text, action = "", ""
        if job is not None and self._has_map():
            progress = job.progress
            text, action = sentence(progress.what) if progress else job.title, tr("Stop")
            if progress and progress.total:
                text += f" · {progress.done / progress.total:.0%}"
        elif isinstance(data, PictureMapData) and data.n_missing and not self._is_so_far:
            text, action = tr("{n} pictures are not on the map yet.", n=data.n_missing), tr("Add them")
        elif data is not None and data.is_old:
            text, action = tr("The pictures have changed since this map was made."), tr("Update")
        elif isinstance(data, PictureMapData) and data.about and data.about.is_stopped:
            text, action = tr("Stopped at step {n}.", n=data.about.step), tr("Go on")
        self._note.setText(text)
        self._note.setVisible(bool(text))
        self._update_button.setText(action)
        self._update_button.setAccessibleName(action)
        self._update_button.setVisible(bool(action))

    def _show_by(self) -> None:
        job = self._work.job
        is_searching = job is not None and job.argv[0] == "clusters"
        self.panel.show_by(self.drawing.by, self.drawing.colouring, is_searching=is_searching)

    def _show_status(self) -> None:
        """Say in words what is on the map and what is selected."""
        text = ""
        if self._has_map():
            text = self.drawing.words()
            if self._is_of_classes and self._classes is not None:
                classes = counted(len(self._classes.about.names), "class", "classes")
                text = tr("{classes}: a click selects its pictures", classes=classes)
                if n := len(self._state.selected):
                    text = tr("{classes} · {pictures} selected", classes=classes, pictures=counted(n, tr("picture")))
        self._status.setText(text)
        self.canvas.setAccessibleDescription(text)

    def _coloured(self) -> None:
        self._show_by()
        self._show_status()

    def _show_selected(self) -> None:
        self.drawing.show_selected()
        self._show_status()

    def _show_hovered(self) -> None:
        self.drawing.show_hovered()
        if self._state.hovered is None or not self.canvas.underMouse():
            self._card.hide()

    def _retint(self) -> None:
        self.drawing.tint()
        self._take_classes(self._classes) if self._classes is not None else None

    # What the person does on the map

    def _ids(self, numbers: Sequence[int] | NDArray[np.int64]) -> Ids:
        """Return which pictures numbers of the canvas are; none where another project was opened a moment ago."""
        return self._state.table.ids_N[numbers] if self.drawing.is_ready() else no_ids()

    def _clicked(self, canvas: ScatterCanvas, number: int, how: How) -> None:
        if number < 0:
            return
        if canvas is self.class_canvas:
            self._select_class(number, how)
        elif how == "replace":
            for picture in self._ids([number]).tolist():
                self._session.set_current(picture)
        else:
            self._session.select(self._ids([number]), how)

    def _activated(self, number: int) -> None:
        for picture in self._ids([number]).tolist():
            self._session.set_current(picture)
            self._session.go("look")

    def _lassoed(self, canvas: ScatterCanvas, numbers: NDArray[np.int64], how: How) -> None:
        if canvas is self.class_canvas:
            found = [self._of_class(number) for number in numbers.tolist()]
            ids = np.concatenate(found) if found else no_ids()
        else:
            ids = self._ids(numbers)
        text = {"lasso": tr("Lasso"), "rectangle": tr("Rectangle"), "brush": tr("Brush")}.get(canvas.tool, tr("Select"))
        self._session.select_with_tool(ids, how, text)

    def _select_class(self, number: int, how: How) -> None:
        self._select_named(self._class_caption(number), how)

    def _select_named(self, name: str, how: How) -> None:
        self._session.select_with_tool(self._named(name), how, tr("Select a class"))

    def _of_class(self, number: int) -> Ids:
        return self._named(self._class_caption(number))

    def _named(self, name: str) -> Ids:
        table = self._state.table
        return table.ids_N[table.label.is_one_of([name])]

    def _select_group(self) -> None:
        self._selecting.group(self.drawing.colouring)

    def _select_none(self) -> None:
        if len(self._state.selected):
            self._session.select_with_tool(no_ids(), "replace", tr("Select nothing"))

    def _hover(self, number: int) -> None:
        state = self._state
        if number < 0 or not self.drawing.is_ready():
            self._session.hover(None)
            self._card.hide()
            return
        picture = int(state.table.ids_N[number])
        self._session.hover(picture)
        self._card_of = picture
        self._card.show_picture(self.canvas.mouse, self._card_image(picture), self.drawing.lines_of(picture))

    def _card_image(self, picture: int) -> QImage | None:
        return self._desk.thumbnails.image(picture, round(PICTURE_PX * self.devicePixelRatioF()))

    def _picture(self, number: int, side: int) -> QImage | None:
        ids = self._ids([number])
        return self._desk.thumbnails.image(int(ids[0]), side) if len(ids) else None

    def _class_picture(self, number: int, side: int) -> QImage | None:
        assert self._classes is not None
        picture = self._classes.about.nearest[number]
        return self._desk.thumbnails.image(picture, side) if self._state.table.contains(picture) else None

    def _class_caption(self, number: int) -> str:
        return self._classes.about.names[number] if self._classes else ""

    def _draw_arrived(self) -> None:
        if self.isVisible():
            self._front.update()
            if self._card.isVisible():
                self._card.set_image(self._card_image(self._card_of))

    def _show_me_current(self) -> None:
        self.canvas.show_number(self.drawing.number_of(self._state.current))

    def _toggle_thumbnails(self) -> None:
        self._choose(thumbnails="near" if self._choices.thumbnails == "always" else "always")

    # What is seen is remembered

    def _moved(self) -> None:
        self._card.hide()
        self._remember.start()

    def _remember_view(self) -> None:
        if self.drawing.data is not None and not self._is_so_far:
            self._choose(view=tuple(round(part, 6) for part in self.canvas.camera.seen() or ()))

    def showEvent(self, event: QShowEvent) -> None:
        """Begin to draw."""
        super().showEvent(event)
        self._show_jobs()

    def hideEvent(self, event: QHideEvent) -> None:
        """Nothing is under the mouse any more."""
        super().hideEvent(event)
        self._card.hide()

    # Work for the engine, and what is taken away

    @property
    def _title(self) -> str:
        """What the job that makes the map is called."""
        return tr("Make the {method} map", method=METHOD_NAMES[self._choices.method])

    def _make(self) -> None:
        self._work.make(self._choices.method, self._title)

    def _make_again(self) -> None:
        self._work.make_map(self._choices.method, self._title, again=True)

    def _update(self) -> None:
        self._work.update(self._choices.method, self._title, self._data)

    def _press_note(self) -> None:
        """Do what the quiet line offers."""
        if self._work.job is not None:
            self._work.stop()
        else:
            self._update()

    def _find_clusters(self) -> None:
        self._work.find_clusters(self._by_cluster)

    def _by_cluster(self) -> None:
        self._choose(by="cluster")
        self.drawing.colour()

    def _as_seen(self) -> Seen:
        """Return the map as it is seen, to be taken away."""
        method, state = self._choices.method, self._state
        table, classes = state.table, self._classes
        note = state.set_row.about if state.set_row else ""
        if method == "classes" and classes is not None:
            title = tr("{n} classes", n=len(classes.about.names))
            sheet = Sheet(title=title, note=note, keys=[])
            return Seen(canvas=self.class_canvas, sheet=sheet, name=lambda number: classes.about.names[number])
        n = len(self.drawing.data.cloud) if self.drawing.data else 0
        title = tr("{method} of {n} pictures", method=METHOD_NAMES[method], n=n)
        keys = legend_keys(self.drawing.colouring, self.panel.legend.colours_K3)
        sheet = Sheet(title=title, note=note, keys=keys)
        return Seen(canvas=self.canvas, sheet=sheet, name=lambda number: table.path(int(table.ids_N[number])))

    def _save(self, ending: str) -> None:
        project = self._state.project
        begin = (project.parent if project else Path.home()) / f"map-{self._choices.method}.{ending}"
        chosen, _ = QFileDialog.getSaveFileName(self, tr("Save the map"), str(begin), f"*.{ending}")
        if chosen:
            save(self._desk, self._as_seen(), Path(chosen).with_suffix(f".{ending}"))
