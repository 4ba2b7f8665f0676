"""The Map: all pictures of a set laid out so that those that are alike lie together.

What is read is read in the background; the canvas knows pictures by their row in the project's table. Colours, the
filter, the selection, the current picture and the one under the mouse are the session's.

Letters after a name are its axes: N pictures, in the order of the project's table
"""

from dataclasses import dataclass, replace
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
from dinoviz.colouring import FACETS, MOST_COLOURS, NAMED, TITLES, By, Colouring, Group, read_colouring
from dinoviz.controls import Line, button, label
from dinoviz.desk import Desk
from dinoviz.hover_card import PICTURE_PX, HoverCard
from dinoviz.map_bar import METHODS, MapBar
from dinoviz.map_empty import MapEmpty
from dinoviz.map_jobs import MapWork, is_tsne, sentence
from dinoviz.map_panel import MapPanel
from dinoviz.map_reading import (
    ClassMapData,
    PictureMapData,
    maps_there,
    read_class_map_data,
    read_picture_map,
    read_so_far,
)
from dinoviz.map_selecting import MapSelecting
from dinoviz.map_sheet import Sheet
from dinoviz.map_taking_away import Seen, copy, legend_keys, save
from dinoviz.scatter import Place, ScatterCanvas
from dinoviz.session import How, State
from dinoviz.splat import densest_places
from dinoviz.table import Ids, PictureTable, no_ids
from dinoviz.watching import follow, watch
from dinoviz.words import counted, tr
from engine.finding.map_files import so_far_path

LOOK_AGAIN_MS = 400  # between two looks at whether a t-SNE that is being made has moved on
ARRIVED_MS = 30  # in which thumbnails that came are drawn together
CLASS_PX, CLASS_MARGIN = 84, 0.14  # side of a class's picture, and room around the map for it
REMEMBER_MS = 600  # after the last movement, when what is seen is remembered
METHOD_NAMES = {value: name for value, name, _ in METHODS}


@dataclass(frozen=True, slots=True)
class _Key:
    """What a map that was read is of: nothing is read again while this stays the same."""

    folder: Path
    method: str
    stamps: tuple[int, ...]


class MapView(QWidget):
    """The map, its tools and its legend."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk, self._session = desk, desk.session
        self._work, self._selecting = MapWork(desk), MapSelecting(desk)
        self._key: _Key | None = None
        self._table: PictureTable | None = None
        self._data: PictureMapData | None = None
        self._classes: ClassMapData | None = None
        self._there: frozenset[str] = frozenset()
        self._is_read = False
        self._colouring: Colouring | None = None
        self._so_far_stamp = 0
        self._is_so_far = False
        self._seen_for: tuple[Path, str] | None = None
        self._build()
        self._timers()
        self._bind()
        self._watch()
        self._read()

    # Parts

    def _build(self) -> None:
        self.canvas = ScatterCanvas()
        self.canvas.picture = self._picture
        self.class_canvas = ScatterCanvas()
        self.class_canvas.picture = self._class_picture
        self.class_canvas.caption = self._class_caption
        self.class_canvas.set_thumbnails("always")
        self.class_canvas.thumbnail_px, self.class_canvas.margin = CLASS_PX, CLASS_MARGIN
        self.class_canvas.setAccessibleName(tr("Map of classes"))
        self.empty = MapEmpty(self._make)
        self._stack = QStackedWidget()
        for part in (self.canvas, self.class_canvas, self.empty):
            self._stack.addWidget(part)
        self._stack.setCurrentWidget(self.empty)
        self._card = HoverCard(self.canvas)
        self.panel = MapPanel(lambda by: self._choose(by=by), self._find_clusters)
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
        watch(self, session, ("table", "marks", "set", "current"), self._colour)
        watch(self, session, ("shown", "table"), self._show_filter)
        watch(self, session, ("selected", "table"), self._show_selected)
        watch(self, session, ("current", "table"), self._show_current)
        watch(self, session, ("hovered",), self._show_hovered)
        watch(self, session, ("query",), lambda: self.panel.legend.show_query(session.state.query))
        watch(self, session, ("jobs", "model", "project"), self._show_jobs)
        for canvas in (self.canvas, self.class_canvas):
            canvas.clicked.connect(partial(self._clicked, canvas))
            canvas.selected.connect(partial(self._lassoed, canvas))
            canvas.cleared.connect(self._select_none)
        self.canvas.hovered.connect(self._hover)
        self.canvas.activated.connect(self._activated)
        self.canvas.view_changed.connect(self._moved)
        self.panel.legend.picked.connect(self._picked_group)
        self.panel.legend.pointed.connect(lambda group: self.canvas.set_emphasis(group.code if group else -1))
        self._desk.thumbnails.arrived.connect(lambda _picture: self._arrived.start())
        follow(self, theme.changed, self._colour_again)

    def _bind(self) -> None:
        bind = self._desk.actions.bind
        for tool in ("pan", "lasso", "rectangle", "brush"):
            bind(f"map.{tool}", partial(self._choose, tool=tool))
        bind("map.fit", lambda: self._front.fit(), self._has_map)
        bind("map.current", self._show_me_current, lambda: self._state.current is not None)
        bind("map.density", lambda: self._choose(is_dense=not self._choices.is_dense))
        bind("map.thumbnails", self._toggle_thumbnails)
        bind("map.cluster", lambda: self._selecting.group(self._colouring), lambda: self._state.current is not None)
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
    def _front(self) -> ScatterCanvas:
        return self.class_canvas if self._choices.method == "classes" else self.canvas

    def _choose(self, **fields: Any) -> None:
        self._session.choose(map=replace(self._choices, **fields))

    def _has_map(self) -> bool:
        return self._stack.currentWidget() is not self.empty

    def _has_selection(self) -> bool:
        return len(self._state.selected) > 0 and self._folder is not None

    def _chosen(self) -> None:
        """Draw as it was chosen."""
        choices = self._choices
        for canvas in (self.canvas, self.class_canvas):
            canvas.set_tool(choices.tool)  # type: ignore[arg-type]
        self.canvas.set_density(choices.is_dense, has_contours=choices.has_contours)
        self.canvas.set_thumbnails(choices.thumbnails)  # type: ignore[arg-type]
        self.canvas.set_point_size(choices.point_size)
        self._show_state()
        self._show_filter()
        self._show_places()
        self._colour()
        self._colour_again()
        self._read()

    # Reading the map

    def _read(self) -> None:
        """Read the map that is chosen, if it or the pictures have changed."""
        folder, method, table = self._folder, self._choices.method, self._state.table
        if folder is None or not len(table):
            self._take_nothing()
            return
        kept, known = self._key, self._table

        def work() -> tuple[_Key, frozenset[str], Any]:
            key = _Key(folder, method, _stamps(folder, method))
            is_same_table = known is not None and (known is table or np.array_equal(known.ids_N, table.ids_N))
            if key == kept and is_same_table and method != "classes":
                return key, maps_there(folder), None
            data = (
                read_class_map_data(folder, table) if method == "classes" else read_picture_map(folder, method, table)  # type: ignore[arg-type]
            )
            return key, maps_there(folder), data or "none"

        self._desk.background.run("map.data", work, partial(self._take, table))

    def _take_nothing(self) -> None:
        self._desk.background.forget("map.data")
        self._key = self._table = self._data = self._classes = None
        self._there, self._is_read = frozenset(), not self._state.is_reading
        self.canvas.set_cloud(None)
        self._show_state()

    def _take(self, table: PictureTable, read: tuple[_Key, frozenset[str], Any]) -> None:
        """Show what was read."""
        key, self._there, data = read
        self._is_read = True
        self._table = table
        if data is not None and not (self._is_so_far and data == "none"):
            self._key, self._is_so_far = key, False
            if isinstance(data, ClassMapData):
                self._take_classes(data)
            else:
                self._data = data if isinstance(data, PictureMapData) else None
                self._classes = None if data == "none" and key.method == "classes" else self._classes
                self._put_cloud()
        self._show_state()

    def _take_classes(self, data: ClassMapData) -> None:
        """Show the classes, in the colours that their labels have on the map of pictures: the largest first."""
        self._classes = data
        cloud, n = data.cloud, len(data.about.names)
        ranks = np.argsort(np.argsort(-np.array(data.about.counts), kind="stable"))
        self.class_canvas.set_cloud(cloud, data.layer)
        self.class_canvas.set_colours(
            np.minimum(ranks, MOST_COLOURS - 1).astype(np.uint8), theme.category_colours(min(n, MOST_COLOURS))
        )
        where = zip(cloud.numbers_S.tolist(), cloud.x_S.tolist(), cloud.y_S.tolist(), strict=True)
        self.class_canvas.set_places(
            [Place(data.about.names[number], x, y, data.about.counts[number]) for number, x, y in where]
        )

    def _put_cloud(self) -> None:
        data = self._data
        if self._choices.method == "classes":
            return
        self.canvas.set_cloud(data.cloud if data else None, data.layer if data else None)
        self._see_again()
        self._colour()
        self._show_filter()
        self._show_selected()
        self._show_current()

    def _look_for_progress(self) -> None:
        """Show how far a t-SNE that is being made has come."""
        folder, table = self._folder, self._state.table
        if folder is None or self._choices.method != "tsne":
            return
        try:
            stamp = so_far_path(folder).stat().st_mtime_ns
        except OSError:
            return
        if stamp != self._so_far_stamp:
            self._so_far_stamp = stamp
            self._desk.background.run("map.so_far", lambda: read_so_far(folder, table), self._take_so_far)

    def _take_so_far(self, data: PictureMapData | None) -> None:
        if data is None or self._work.job is None or self._choices.method != "tsne":
            return
        self._data, self._is_so_far, self._key = data, True, None
        self._is_read = True
        self._put_cloud()
        self._show_state()

    def _show_state(self) -> None:
        """Show the map, or what there is to do first."""
        method, state = self._choices.method, self._state
        has_one = self._classes is not None if method == "classes" else self._data is not None
        front = self._front if has_one and self._folder is not None else self.empty
        if self._stack.currentWidget() is not front:
            self._stack.setCurrentWidget(front)
        self.setFocusProxy(front)
        has_panel = self._choices.has_legend and front is not self.empty
        self.panel.setVisible(has_panel)
        self._panel_line.setVisible(has_panel)
        if method == "classes":
            self.panel.show_class_map(self._classes)
        else:
            self.panel.show_picture_map(self._data)
        for value, _, tip in METHODS:
            made = "" if value in self._there or self._folder is None else tr("\nNot made yet.")
            self.bar.methods.set_tip(value, tr(tip) + made)
        if front is self.empty:
            self.empty.show_state(
                METHOD_NAMES[method],
                method,
                is_read=self._is_read and not state.is_reading,
                has_features=self._folder is not None,
                model=state.model,
                n_labels=len(state.table.label.words),
                job=self._work.job,
            )
        self._show_note()
        self._show_status()

    def _show_jobs(self) -> None:
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
        self._show_state()

    def _show_note(self) -> None:
        """Say quietly that the map is being made, or is out of date."""
        job, data = self._work.job, self._classes if self._choices.method == "classes" else self._data
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

    # Colours, filter, selection

    def _colour(self) -> None:
        """Read what the colours mean."""
        state, data, by = self._state, self._data, self._choices.by
        if data is None or data.cloud.n != len(state.table):
            return
        if by not in TITLES:
            by = "label"
        if by == "label" and not state.table.label.words:
            by = "none"
        is_on_N = np.zeros(len(state.table), np.bool_)
        is_on_N[data.cloud.numbers_S] = True
        table, marks, folder, current = state.table, state.marks, self._folder, state.current
        by_now: By = by  # type: ignore[assignment]

        def work() -> tuple[Colouring, list[Place]]:
            found = read_colouring(by_now, table, marks, folder, current, is_on_N)
            return found, _places(data, found)

        if by_now == "similarity" or self._colour_key() != self._coloured_for:
            self._desk.background.run("map.colours", work, partial(self._take_colours, self._colour_key()))
        self._show_by()

    _coloured_for: tuple[Any, ...] = ()

    def _colour_key(self) -> tuple[Any, ...]:
        """Return what colours depend on, by identity."""
        state, by = self._state, self._choices.by
        marks = (id(state.marks.tags), id(state.marks.ratings)) if by in ("tag", "rating") else ()
        clusters = () if by != "cluster" or self._folder is None else _stamps(self._folder, "clusters")
        return by, id(state.table), id(self._data), *marks, *clusters

    def _take_colours(self, key: tuple[Any, ...], read: tuple[Colouring, list[Place]]) -> None:
        if self._data is None or len(read[0].codes_N) != self._data.cloud.n:
            return
        self._coloured_for = key
        self._colouring, self._found_places = read
        self._colour_again()
        self._show_places()
        self._show_by()
        self._show_status()

    _found_places: list[Place] = []  # noqa: RUF012 - replaced whole

    def _colour_again(self) -> None:
        """Give what was read its colours in the theme of now."""
        if self._colouring is not None:
            self.panel.legend.show_colouring(self._colouring, self._choices.colour_map)
            self.panel.legend.show_query(self._state.query)
            self.canvas.set_colours(self._colouring.codes_N, self.panel.legend.colours_K3)
        if self._classes is not None:
            self._take_classes(self._classes)

    def _show_by(self) -> None:
        job = self._work.job
        by = self._choices.by if self._choices.by in TITLES else "label"
        is_searching = job is not None and job.argv[0] == "clusters"
        self.panel.show_by(by, self._colouring, is_searching=is_searching)  # type: ignore[arg-type]

    def _show_places(self) -> None:
        self.canvas.set_places(self._found_places if self._choices.has_names else [])

    def _show_filter(self) -> None:
        state, data = self._state, self._data
        if data is None or data.cloud.n != len(state.table):
            return
        table, shown, hides = state.table, state.shown, self._choices.hides_others
        self._desk.background.run(
            "map.shown", lambda: _is_among(table, shown), lambda is_in_N: self._take_shown(is_in_N, hides)
        )

    def _take_shown(self, is_shown_N: NDArray[np.bool_], hides: bool) -> None:
        data = self._data
        if data is not None and len(is_shown_N) == data.cloud.n:
            is_all = bool(is_shown_N[data.cloud.numbers_S].all())
            self.canvas.set_shown(None if is_all else is_shown_N, hides_others=hides)

    def _show_selected(self) -> None:
        state, data = self._state, self._data
        self._show_status()
        if data is None or data.cloud.n != len(state.table):
            return
        if not len(state.selected):
            self._desk.background.forget("map.selected")
            self.canvas.set_chosen(None)
            return
        table, selected = state.table, state.selected
        self._desk.background.run("map.selected", lambda: _is_among(table, selected), self._take_selected)

    def _take_selected(self, is_chosen_N: NDArray[np.bool_]) -> None:
        if self._data is not None and len(is_chosen_N) == self._data.cloud.n and len(self._state.selected):
            self.canvas.set_chosen(is_chosen_N)

    def _show_current(self) -> None:
        self.canvas.set_current(self._number_of(self._state.current))

    def _show_hovered(self) -> None:
        number = self._number_of(self._state.hovered)
        self.canvas.set_hovered(number)
        if number < 0 or not self.canvas.underMouse():
            self._card.hide()

    def _number_of(self, picture: int | None) -> int:
        table = self._state.table
        return table.row_of(picture) if picture is not None and table.contains(picture) else -1

    def _show_status(self) -> None:
        """Say in words what is on the map and what is selected."""
        state, data = self._state, self._data
        if not self._has_map() or data is None or self._choices.method == "classes":
            n = len(self._classes.about.names) if self._classes and self._has_map() else 0
            self._status.setText(
                tr("{classes}: a click selects its pictures", classes=counted(n, "class", "classes")) if n else ""
            )
            return
        text = counted(len(data.cloud), "picture")
        if n := len(state.selected):
            text = tr("{n} of {all} selected", n=n, all=text) + self._mostly()
        self._status.setText(text)
        self.canvas.setAccessibleDescription(text)

    def _mostly(self) -> str:
        """Return which group most of the selected pictures are of."""
        colouring, table = self._colouring, self._state.table
        if colouring is None or colouring.groups_N is None or len(colouring.groups_N) != len(table):
            return ""
        places = colouring.groups_N[table.rows_of(self._state.selected)]
        if not len(places) or not colouring.groups:
            return ""
        counts = np.bincount(places, minlength=len(colouring.groups))
        most = int(counts.argmax())
        return f" · {colouring.groups[min(most, len(colouring.groups) - 1)].text} {counts[most] / len(places):.0%}"

    # What the person does on the map

    def _clicked(self, canvas: ScatterCanvas, number: int, how: How) -> None:
        if number < 0:
            return
        if canvas is self.class_canvas:
            self._select_class(number, how)
            return
        picture = int(self._state.table.ids_N[number])
        if how == "replace":
            self._session.set_current(picture)
        else:
            self._session.select([picture], how)

    def _activated(self, number: int) -> None:
        self._session.set_current(int(self._state.table.ids_N[number]))
        self._session.go("look")

    def _lassoed(self, canvas: ScatterCanvas, numbers: NDArray[np.int64], how: How) -> None:
        if canvas is self.class_canvas:
            found = [self._of_class(int(number)) for number in numbers]
            ids = np.concatenate(found) if found else no_ids()
        else:
            ids = self._state.table.ids_N[numbers]
        text = {"lasso": tr("Lasso"), "rectangle": tr("Rectangle"), "brush": tr("Brush")}.get(canvas.tool, tr("Select"))
        self._session.select_with_tool(ids, how, text)

    def _select_class(self, number: int, how: How) -> None:
        self._session.select_with_tool(self._of_class(number), how, tr("Select a class"))

    def _of_class(self, number: int) -> Ids:
        assert self._classes is not None
        table, name = self._state.table, self._classes.about.names[number]
        return table.ids_N[table.label.is_one_of([name])]

    def _select_none(self) -> None:
        if len(self._state.selected):
            self._session.select_with_tool(no_ids(), "replace", tr("Select nothing"))

    def _picked_group(self, group: Group, is_toggle: bool) -> None:
        """Filter by a group of the legend."""
        colouring = self._colouring
        if colouring is None or not colouring.facet:
            return
        query, facet = self._state.query, colouring.facet
        if facet == "rating":
            value: Any = 0 if query.rating == (group.value or 0) else group.value or 0
        else:
            if group.value == "" and facet in ("clusters", "tags"):
                return  # a query cannot ask for pictures without one
            now = getattr(query, facet)
            if is_toggle:
                value = tuple(one for one in now if one != group.value) if group.value in now else (*now, group.value)
            else:
                value = () if now == (group.value,) else (group.value,)
        self._session.set_query(replace(query, **{facet: value}))

    def _hover(self, number: int) -> None:
        state = self._state
        if number < 0 or number >= len(state.table):
            self._session.hover(None)
            self._card.hide()
            return
        picture = int(state.table.ids_N[number])
        self._session.hover(picture)
        self._card_of = picture
        self._card.show_picture(self.canvas.mouse, self._card_image(picture), self._lines(picture))

    _card_of = -1

    def _card_image(self, picture: int) -> QImage | None:
        return self._desk.thumbnails.image(picture, round(PICTURE_PX * self.devicePixelRatioF()))

    def _lines(self, picture: int) -> tuple[str, ...]:
        """Return what the card says of a picture: its name, label, group."""
        table, colouring = self._state.table, self._colouring
        row = table.row_of(picture)
        lines = [table.name(picture)]
        if text := table.label.word(row):
            lines.append(text)
        if colouring is not None and colouring.groups_N is not None and colouring.by != "label" and colouring.groups:
            place = min(int(colouring.groups_N[row]), len(colouring.groups) - 1)
            lines.append(colouring.groups[place].text)
        return tuple(lines)

    def _picture(self, number: int, side: int) -> QImage | None:
        return self._desk.thumbnails.image(int(self._state.table.ids_N[number]), side)

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
        self.canvas.show_number(self._number_of(self._state.current))

    def _toggle_thumbnails(self) -> None:
        self._choose(thumbnails="near" if self._choices.thumbnails == "always" else "always")

    # What is seen is remembered

    def _moved(self) -> None:
        self._card.hide()
        self._remember.start()

    def _remember_view(self) -> None:
        if self._data is not None and not self._is_so_far:
            self._choose(view=tuple(round(part, 6) for part in self.canvas.seen() or ()))

    def _see_again(self) -> None:
        """Show the part that was seen last when the first map is drawn."""
        if self._seen_for is None and self._data is not None and self._folder is not None:
            self._seen_for = (self._folder, self._choices.method)
            view = self._choices.view
            if len(view) == len(("x", "y", "zoom")):
                self.canvas.see(*(float(part) for part in view))

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
        data = self._classes if self._choices.method == "classes" else self._data
        self._work.update(self._choices.method, self._title, data)

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
        self._colour()

    def _as_seen(self) -> Seen:
        """Return the map as it is seen, to be taken away."""
        method, state = self._choices.method, self._state
        table, classes = state.table, self._classes
        note = state.set_row.about if state.set_row else ""
        if method == "classes" and classes is not None:
            title = tr("{n} classes", n=len(classes.about.names))
            sheet = Sheet(title=title, note=note, keys=[])
            return Seen(canvas=self.class_canvas, sheet=sheet, name=lambda number: classes.about.names[number])
        n = len(self._data.cloud) if self._data else 0
        title = tr("{method} of {n} pictures", method=METHOD_NAMES[method], n=n)
        keys = legend_keys(self._colouring, self.panel.legend.colours_K3)
        sheet = Sheet(title=title, note=note, keys=keys)
        return Seen(canvas=self.canvas, sheet=sheet, name=lambda number: table.path(int(table.ids_N[number])))

    def _save(self, ending: str) -> None:
        project = self._state.project
        begin = (project.parent if project else Path.home()) / f"map-{self._choices.method}.{ending}"
        chosen, _ = QFileDialog.getSaveFileName(self, tr("Save the map"), str(begin), f"*.{ending}")
        if chosen:
            save(self._desk, self._as_seen(), Path(chosen).with_suffix(f".{ending}"))


def _stamps(folder: Path, method: str) -> tuple[int, ...]:
    """Return when what a map or clusters are made of was last written, 0 for never."""
    names = (
        ["rows.npy", f"map-{method}.json"]
        if method != "clusters"
        else ["clusters-kmeans.json", "clusters-hdbscan.json"]
    )
    found = []
    for name in names:
        try:
            found.append((folder / name).stat().st_mtime_ns)
        except OSError:
            found.append(0)
    return tuple(found)


def _is_among(table: PictureTable, ids: Ids) -> NDArray[np.bool_]:
    """Return which pictures of a table are among some."""
    is_among_N = np.zeros(len(table), np.bool_)
    is_among_N[table.rows_of(ids)] = True
    return is_among_N


def _places(data: PictureMapData, colouring: Colouring) -> list[Place]:
    """Return the names of the largest groups, where each is densest."""
    groups = [group for group in colouring.groups if group.value not in ("", None)][:NAMED]
    if (
        colouring.groups_N is None
        or colouring.facet not in FACETS.values()
        or colouring.by == "rating"
        or len(groups) < 2
    ):
        return []
    codes_S = colouring.groups_N[data.cloud.numbers_S]
    codes_S = np.where(codes_S < len(groups), codes_S, -1)
    middles, counts = densest_places(data.cloud, codes_S, len(groups))
    return [
        Place(group.text, float(middle[0]), float(middle[1]), int(count))
        for group, middle, count in zip(groups, middles, counts, strict=True)
        if count
    ]
