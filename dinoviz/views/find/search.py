"""Search: what is like a picture, several, or a part of one; every result is the beginning of the next question."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QEvent, QObject, QPoint, QSize, Qt, QTimer
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QSizePolicy, QStackedWidget, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.asked import (
    Asked,
    Found,
    Picture,
    found_of,
    name_of,
    step_of,
    stepping,
    wanted,
)
from dinoviz.controls import Line, clear, label, pixmap
from dinoviz.desk import Desk
from dinoviz.engine_process import Service
from dinoviz.views.find.missing import Missing
from dinoviz.views.find.question import QueryArea
from dinoviz.views.find.tag_menu import TagMenu
from dinoviz.views.find.why import WhyCard
from dinoviz.watching import watch
from dinoviz.widgets.picture.cells import CellLook
from dinoviz.widgets.picture.grid import PictureGrid
from dinoviz.widgets.picture.tile import INSET_PX, PictureTile, TileLook
from dinoviz.words import counted, tr
from engine.errors import NotMade
from engine.protocol import Refused
from engine.questions import Describe, Hits, Part, PartHits, PartShown, Ping, ShowPart, Similar, Vectors

CRUMB_PX = 30
ARROW_PX = 12
BAR_PX = CRUMB_PX + 2 * INSET_PX + 2 * theme.SPACE_S
MOST_CRUMBS = 8
BESIDE_CRUMBS_PX = 440
"""Of the bar: buttons, and the words about what was found."""
TAGS_PX = 220
"""How far from the right edge the menu of tags opens."""
HOVER_MS = 130
"""How long the mouse rests on a result before it is explained."""


class SearchPanel(QWidget):
    """The question at the left, what was found at the right."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._session = desk.session
        self._found = Found()
        self._why: WhyCard
        self._asked_key: object = None
        self._begun = 0.0
        self._area = QueryArea(desk)
        self._build()
        self._bind()
        watch(self, self._session, ("choices.find", "set", "sets", "project", "table"), self.ask_again)
        watch(self, self._session, ("shown",), self._filter_again)
        watch(self, self._session, ("marks",), self.ask_again)
        watch(self, self._session, ("choices.find", "table"), self._draw_crumbs)
        watch(self, self._session, ("hovered",), self._hovered)
        watch(self, self._session, ("current", "selected"), self._draw_actions)
        watch(self, self._session, ("current",), self._offer_current)
        watch(self, self._session, ("current",), self._moved_on)
        self._draw_crumbs()
        self.ask_again()

    def showEvent(self, event: QShowEvent) -> None:
        """Let both services start before something is asked of them."""
        super().showEvent(event)
        if self._session.state.set is not None:
            for service in self._services:
                service.ask(Ping(), "find.wake", lambda _done: None)

    # Layout

    def _build(self) -> None:
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self._area)
        row.addWidget(Line(is_upright=True))
        row.addWidget(self._results(), 1)

    def _results(self) -> QWidget:
        self._made = made = QWidget()
        column = QVBoxLayout(made)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._bar())
        column.addWidget(Line())
        self._stack = QStackedWidget()
        self._grid = PictureGrid(self._desk, key="find")
        self._grid.set_marks(self._look)
        self._grid.set_menu(self._menu)
        self._grid.set_side(self._session.state.choices.find.side_px)
        self._grid.side_changed.connect(self._keep_side)
        self._grid.activated.connect(lambda _picture: self._desk.actions.trigger("picture.look"))
        self._grid.viewport().installEventFilter(self)
        self._grid.verticalScrollBar().valueChanged.connect(lambda _value: self._why.put_away())
        self._stack.addWidget(self._grid)
        self._missing = Missing(self._desk, self._search_anew, lambda: self._area.asked().is_part)
        self._stack.addWidget(self._missing)
        column.addWidget(self._stack, 1)
        self._why = WhyCard(self._desk, made, self._stack)
        self._resting = QTimer(self, singleShot=True, interval=HOVER_MS)
        self._resting.timeout.connect(lambda: self._explain(self._session.state.hovered))
        return made

    def _bar(self) -> QWidget:
        bar = QWidget()
        bar.setProperty("kind", "panel")
        row = QHBoxLayout(bar)
        row.setContentsMargins(theme.SPACE, theme.SPACE_S, theme.SPACE, theme.SPACE_S)
        row.setSpacing(theme.SPACE_S)
        actions = self._desk.actions
        self._back, self._forward = actions.button("find.back"), actions.button("find.forward")
        row.addWidget(self._back)
        row.addWidget(self._forward)
        self._crumbs = QHBoxLayout()
        self._crumbs.setSpacing(0)
        row.addLayout(self._crumbs)
        row.addSpacing(theme.SPACE)
        self._said = label("", "small")
        self._said.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row.addWidget(self._said, 1)
        self._more = actions.button("find.more_like", with_text=True)
        row.addWidget(self._more)
        self._of_results = {"find.more_like": self._more}
        for name in ("find.add_current", "find.select_found", "find.show_on_map", "find.tag"):
            self._of_results[name] = actions.button(name)
            row.addWidget(self._of_results[name])
        self._tag_menu = TagMenu(self._session, lambda: self._session.state.meant(), self)
        bar.setFixedHeight(BAR_PX)
        return bar

    def _bind(self) -> None:
        bind = self._desk.actions.bind
        bind("find.use_current", self._use_current, lambda: self._session.state.current is not None)
        bind("find.choose_file", self._area.choose_file)
        bind("find.paste", self._area.paste)
        bind("find.clear", lambda: self._area.ask(Asked()), lambda: bool(self._area.asked().pictures))
        bind("find.more_like", self._use_current, self._has_result_in_hand)
        bind("find.add_current", self._add_meant, self._has_result_in_hand)
        bind("find.back", lambda: self._step(-1), lambda: self._session.state.choices.find.step > 0)
        bind("find.forward", lambda: self._step(1), self._can_go_forward)
        bind("find.select_found", self._select_found, lambda: len(self._found.ids) > 0)
        bind("find.show_on_map", self._show_on_map, lambda: len(self._found.ids) > 0)
        bind("find.why", self._why_current, lambda: self._session.state.current in self._found.likeness)
        bind("find.show_in_library", self._show_in_library, lambda: len(self._found.ids) > 0)
        bind("find.tag", self._open_tags, self._has_result_in_hand)
        bind("find.whole", self._area_whole, lambda: self._area.asked().is_part)

    def _has_result_in_hand(self) -> bool:
        """Tell whether there are results, and pictures chosen that something can be done with."""
        return len(self._found.ids) > 0 and len(self._session.state.meant()) > 0

    # What the person does

    def _use_current(self) -> None:
        current = self._session.state.current
        if current is not None:
            self._area.ask(Asked(pictures=(current,)))

    def _add_meant(self) -> None:
        self._area.ask(self._area.asked().with_pictures(self._session.state.meant().tolist()))

    def _open_tags(self) -> None:
        self._tag_menu.popup(self._stack.mapToGlobal(QPoint(self._stack.width() - TAGS_PX, 0)))

    def _area_whole(self) -> None:
        self._area.ask(replace(self._area.asked(), box=None))

    def _step(self, by: int) -> None:
        self._session.choose(find=stepping(self._session.state.choices.find, by))

    def _can_go_forward(self) -> bool:
        choices = self._session.state.choices.find
        return choices.step < len(choices.trail) - 1

    def _select_found(self) -> None:
        self._session.select_with_tool(self._found.ids, "replace", tr("Select what was found"))

    def _show_in_library(self) -> None:
        query = self._session.state.query
        self._session.set_query(replace(query, among=tuple(self._found.ids.tolist())))
        self._session.go("library")

    def _show_on_map(self) -> None:
        self._select_found()
        self._session.go("map")

    def _keep_side(self, side: int) -> None:
        self._session.choose(find=replace(self._session.state.choices.find, side_px=side))

    def _menu(self) -> QMenu:
        menu = QMenu(self)
        actions = self._desk.actions
        for name in (
            "find.more_like",
            "find.why",
            "find.add_current",
            "find.tag",
            "find.show_in_library",
            "",
            "picture.look",
            "picture.reveal",
            "picture.copy",
            "picture.copy_path",
            "",
            "picture.hide",
        ):
            menu.addAction(actions.qaction(name)) if name else menu.addSeparator()
        return menu

    # Searching

    def ask_again(self) -> None:
        """Search, where what is asked or what is searched has changed."""
        state, asked = self._session.state, self._area.asked()
        choices = state.choices.find
        row = state.set_row
        key = (
            state.project,
            asked,
            None if row is None else (row.number, row.count),
            choices.most,
            choices.is_among_shown,
            state.marks.hidden,
        )
        if key == self._asked_key:
            return
        self._asked_key = key
        self._why.put_away()
        if state.project is None or state.is_reading:
            self._asked_key = None
            return
        if row is None:
            self._show_found(Found(asked=asked))
            self._missing.features()
            self._show_missing()
        elif not asked.pictures:
            self._show_found(Found())
            self._say_nothing_asked()
        elif asked.is_part and not row.has_patches:
            self._show_found(Found(asked=asked))
            self._missing.patches()
            self._show_missing()
        else:
            self._begin(asked, row.folder)

    def _begin(self, asked: Asked, folder: Path) -> None:
        self._begun = time.monotonic()
        self._said.setText(tr("Searching …"))
        if asked.is_part:
            first = asked.pictures[0]
            question: object = ShowPart(features=folder, picture=self._file(first), box=asked.box)
            self._ask(self._desk.vision, question, "find.query", lambda answer: self._seen_part(answer, asked))
        elif asked.files:
            question = Describe(features=folder, pictures=tuple(Path(file) for file in asked.files))
            self._ask(self._desk.vision, question, "find.query", lambda answer: self._seen_vectors(answer, asked))
        else:
            self._search_like(None, asked)

    def _ask(self, service: Service, question: object, slot: str, then: Callable[[object], object]) -> None:
        """Ask a service; what it says is heard only while nothing else is looked for, or looked for elsewhere."""
        key = self._asked_key

        def heard(answer: object) -> None:
            if key == self._asked_key:
                then(answer)

        def refused(told: Refused) -> None:
            if key == self._asked_key:
                self._refused(told)

        service.ask(question, slot, heard, refused)

    def _file(self, picture: Picture) -> Path:
        return self._session.state.table.file(picture) if isinstance(picture, int) else Path(picture)

    def _seen_vectors(self, answer: object, asked: Asked) -> None:
        assert isinstance(answer, Vectors)
        self._search_like(Path(answer.path), asked)

    def _search_like(self, vectors: Path | None, asked: Asked) -> None:
        question = Similar(pictures=asked.ids, vectors=vectors, how=asked.how, most=self._wanted())
        self._ask(self._desk.search, question, "find.results", lambda answer: self._take(answer, asked))

    def _seen_part(self, answer: object, asked: Asked) -> None:
        assert isinstance(answer, PartShown)
        question = Part(templates=Path(answer.path), most=self._wanted())
        self._ask(self._desk.search, question, "find.results", lambda answer: self._take(answer, asked))

    def _wanted(self) -> int:
        state = self._session.state
        choices = state.choices.find
        return wanted(choices.most, len(state.marks.hidden), is_filtered=choices.is_among_shown)

    def _take(self, answer: object, asked: Asked) -> None:
        assert isinstance(answer, Hits | PartHits)
        state = self._session.state
        choices = state.choices.find
        found = found_of(
            answer,
            asked,
            state.table,
            choices.most,
            hidden=state.marks.hidden,
            among=state.shown if choices.is_among_shown else None,
        )
        self._show_found(replace(found, took_s=time.monotonic() - self._begun))
        if not len(found.ids):
            text = tr("Nothing else in this project is like it.")
            if choices.is_among_shown:
                text = tr("None of the likest pictures is among those that the filter shows.")
            self._say("magnifying-glass", tr("Nothing found"), text)

    def _filter_again(self) -> None:
        if self._session.state.choices.find.is_among_shown:
            self._search_anew()

    def _search_anew(self) -> None:
        self._asked_key = None
        self.ask_again()

    def _refused(self, refused: Refused) -> None:
        self._show_found(Found(asked=self._area.asked()))
        if refused.problem == NotMade.__name__:
            self._missing.index(refused.message)
            self._show_missing()
            return
        told = " ".join(filter(None, (refused.message, refused.hint)))
        if any(service.state == "failed" for service in self._services):
            self._say("warning", tr("This cannot be searched"), told, tr("Try again"), self._try_again)
        else:
            self._say("warning", tr("This cannot be searched"), told)

    @property
    def _services(self) -> tuple[Service, ...]:
        return self._desk.vision, self._desk.search

    def _try_again(self) -> None:
        """Search once more, with services started anew where they had failed."""
        for service in self._services:
            if service.state == "failed":
                service.restart()
        self._search_anew()

    # What is drawn

    @property
    def found(self) -> Found:
        """What is shown."""
        return self._found

    def _show_found(self, found: Found) -> None:
        self._found = found
        self._grid.set_marks(self._look)
        self._grid.set_ids(found.ids)
        self._stack.setCurrentWidget(self._grid)
        self._draw_said()
        self._draw_actions()

    def _draw_said(self) -> None:
        found = self._found
        if not len(found.ids):
            self._said.setText("")
            return
        words = [counted(len(found.ids), tr("result")), tr("{ms} ms", ms=round(found.took_s * 1000))]
        if found.changed:
            words.append(tr("{n} changed since their features were computed", n=len(found.changed)))
        self._said.setText(" · ".join(words))

    def _look(self, picture: int, usual: CellLook) -> CellLook:
        found = self._found
        likeness = found.likeness.get(picture)
        if likeness is None:
            return usual
        text = f"{likeness:.2f}" + (" ↔" if picture in found.mirrored else "")
        return replace(usual, text=text, box=found.boxes.get(picture), is_old=picture in found.changed)

    def _draw_crumbs(self) -> None:
        choices, table = self._session.state.choices.find, self._session.state.table
        clear(self._crumbs)
        most = self._room_for_crumbs()
        first = max(0, min(choices.step, choices.step - most + 2, len(choices.trail) - most))
        for place in range(first, min(len(choices.trail), first + most)):
            asked = step_of(choices.trail[place]).known(table)
            if not asked.pictures:
                continue
            if self._crumbs.count():
                self._crumbs.addWidget(_arrow())
            self._crumbs.addWidget(self._crumb(asked, place))
        self._draw_actions()

    def _room_for_crumbs(self) -> int:
        """Return how many steps of the trail the bar has room for, beside its buttons and words."""
        room = self.width() - self._area.width() - BESIDE_CRUMBS_PX
        return min(MOST_CRUMBS, max(1, room // (CRUMB_PX + 2 * INSET_PX + ARROW_PX)))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Draw as many steps as there is room for."""
        super().resizeEvent(event)
        self._draw_crumbs()

    def _crumb(self, asked: Asked, place: int) -> PictureTile:
        choices, table = self._session.state.choices.find, self._session.state.table
        name = name_of(asked.pictures[0], table)
        if len(asked.pictures) > 1:
            name = tr("{name} and {n} more", name=name, n=len(asked.pictures) - 1)
        made = PictureTile(self._desk, CRUMB_PX, 0)
        words = tr("A part of {name}", name=name) if asked.is_part else tr("Like {name}", name=name)
        made.set_look(TileLook(asked.pictures[0], is_ringed=place == choices.step, name=words, tip=words))
        made.pressed.connect(lambda _second: self._step(place - self._session.state.choices.find.step))
        return made

    def _draw_actions(self) -> None:
        actions = self._desk.actions
        for made, name in ((self._back, "find.back"), (self._forward, "find.forward")):
            made.setEnabled(actions.can(name))
        for name, made in self._of_results.items():
            made.setEnabled(actions.can(name))
            made.setToolTip(actions.tip(name) if made.isEnabled() else f"{actions.tip(name)}\n{self._why_not()}")

    def _why_not(self) -> str:
        """Return why nothing can be done with results."""
        return tr("Choose one of the results first.") if len(self._found.ids) else tr("There are no results.")

    # Why

    def _hovered(self) -> None:
        hovered = self._session.state.hovered
        asked = self._why.asked
        if asked is not None and asked[1] != hovered:
            self._why.put_away()
        if hovered is not None and hovered in self._found.likeness and self._grid.underMouse():
            self._resting.start()
        else:
            self._resting.stop()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Leave out the tooltip of a picture that is being explained: it would lie over that."""
        if event.type() == QEvent.Type.ToolTip and self._why.isVisible():
            return True
        return super().eventFilter(watched, event)

    def _why_current(self) -> None:
        """Say by the keyboard why the current result is found; once more takes it away."""
        current = self._session.state.current
        if self._why.asked is not None and self._why.asked[1] == current:
            self._why.put_away()
        else:
            self._explain(current)

    def _moved_on(self) -> None:
        """Take away what was said of a picture that is neither the current one nor under the mouse any more."""
        state, asked = self._session.state, self._why.asked
        if asked is not None and asked[1] not in (state.current, state.hovered):
            self._why.put_away()

    def _explain(self, picture: int | None) -> None:
        found = self._found
        if picture is None or picture not in found.likeness or not found.asked.pictures:
            return
        cell = self._grid.rect_of(picture)
        if cell is None:
            return
        corner = self._grid.viewport().mapTo(self._made, cell.topLeft())
        cell.moveTo(corner)
        boxes = (self._area.box_share(), found.boxes.get(picture))
        self._why.show_for(found.asked.pictures[0], picture, found.likeness[picture], boxes, cell)

    # What there is to say instead

    def _say(
        self, icon: str, title: str, text: str, action: str = "", on_press: Callable[[], object] | None = None
    ) -> None:
        self._missing.say(icon, title, text, action, on_press)
        self._show_missing()

    def _show_missing(self) -> None:
        self._stack.setCurrentWidget(self._missing)
        self._said.setText("")

    def _offer_current(self) -> None:
        """Offer to look for the current picture while nothing else is looked for."""
        if self._session.state.set_row is not None and not self._area.asked().pictures:
            self._say_nothing_asked()

    def _say_nothing_asked(self) -> None:
        state = self._session.state
        title = tr("Find pictures like one you have")
        text = tr(
            "Drop a picture here, paste one with Ctrl+V, or choose one of yours. Draw a box on it to look for "
            "a part only."
        )
        if state.current is not None and state.table.contains(state.current):
            action = tr("Like {name}", name=state.table.name(state.current))
            self._say("magnifying-glass", title, text, action, self._use_current)
        else:
            self._say("magnifying-glass", title, text, tr("Choose a picture…"), self._area.choose_file)


def _arrow() -> QLabel:
    made = QLabel()
    made.setAlignment(Qt.AlignmentFlag.AlignCenter)
    made.setFixedSize(QSize(ARROW_PX, CRUMB_PX))
    made.setPixmap(pixmap(theme.icon("caret-right", "faint"), ARROW_PX, made))
    return made
