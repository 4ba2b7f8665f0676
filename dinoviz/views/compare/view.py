"""Compare: two to four networks on the same pictures: what they see, whose neighbours changed, their maps."""

from collections.abc import Sequence

from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QMenu, QPushButton, QStackedWidget, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.choices import CompareChoices
from dinoviz.controls import Elided, EmptyState, Segmented, button, label
from dinoviz.desk import Desk
from dinoviz.model_names import kept_models
from dinoviz.views.compare.agreement import Accuracy
from dinoviz.views.compare.head import Head
from dinoviz.views.compare.looks import KINDS, LooksPage
from dinoviz.views.compare.maps import MapsPage
from dinoviz.views.compare.neighbours import NeighboursPage
from dinoviz.views.compare.networks import MOST, Network, choosable, commands_for, compared, lacking_job, map_command
from dinoviz.views.compare.verdict import TIP, verdict
from dinoviz.watching import watch
from dinoviz.words import tr
from engine.catalogue import MAP_METHODS, WEIGHTS

PAGES = (("looks", "What they see"), ("neighbours", "Neighbours"), ("maps", "Maps"))
TOOLS = (("pan", "Move", "hand"), ("lasso", "Lasso", "lasso"), ("rectangle", "Rectangle", "selection"))
LOOKING = "compare models"


class CompareView(QWidget):
    """The bar above, and the page that was chosen."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk, self._session = desk, desk.session
        self._kept: tuple[str, ...] = ()
        self._networks: list[Network] = []
        self._heads: list[Head] = []
        self._build()
        self._bind()
        session = desk.session
        watch(self, session, ("choices.compare", "sets", "runs", "model", "project", "table"), self._refresh)
        watch(self, session, ("jobs",), self._show_heads)
        watch(self, session, ("current",), self._show_current)
        watch(self, session, ("shown",), self._begin)
        self._refresh()

    @property
    def _choices(self) -> CompareChoices:
        return self._session.state.choices.compare

    def _choose(self, **changes: object) -> None:
        self._session.set_choices("compare", **changes)

    def _build(self) -> None:
        self._looks = LooksPage(self._desk)
        self._neighbours = NeighboursPage(self._desk)
        self._neighbours.read.connect(self._show_heads)
        self._maps = MapsPage(self._desk)
        self._maps.wanted.connect(self._make_map)
        self._nothing = EmptyState(
            "scales",
            tr("Compare two networks"),
            tr("Choose a second one: a run of your own, or a model that you downloaded or imported."),
            tr("Add a network"),
            self._show_add_menu,
        )
        self._pages = QStackedWidget()
        for page in (self._looks, self._neighbours, self._maps, self._nothing):
            self._pages.addWidget(page)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(theme.SPACE)
        whole.addWidget(self._bar())
        self._strip = QFrame()
        self._strip_at = QHBoxLayout(self._strip)
        self._strip_at.setContentsMargins(theme.SPACE_L, 0, theme.SPACE_L, 0)
        self._strip_at.setSpacing(theme.SPACE)
        whole.addWidget(self._strip)
        whole.addWidget(self._pages, 1)
        self._verdict = label("", "small", wraps=True, tip=tr(TIP))
        self._verdict.setAccessibleName(tr("Which network is better"))
        below = QHBoxLayout()
        below.setContentsMargins(theme.SPACE_L, 0, theme.SPACE_L, theme.SPACE)
        below.addWidget(self._verdict)
        whole.addLayout(below)

    def _bar(self) -> QWidget:
        bar = QFrame()
        bar.setProperty("kind", "bar")
        row = QHBoxLayout(bar)
        row.setContentsMargins(theme.SPACE_L, theme.SPACE, theme.SPACE_L, theme.SPACE)
        row.setSpacing(theme.SPACE)
        pages = [(value, tr(text)) for value, text in PAGES]
        self._page = Segmented(pages, lambda value: self._choose(page=value), tr("What to compare"))
        row.addWidget(self._page)
        row.addSpacing(theme.SPACE)
        row.addWidget(self._of_looks())
        row.addWidget(self._of_maps())
        self._name = Elided()
        row.addWidget(self._name, 1)
        self._previous, self._next = (self._desk.actions.button(f"compare.{way}") for way in ("previous", "next"))
        row.addWidget(self._previous)
        row.addWidget(self._next)
        self._add = button(tr("Add a network"), self._show_add_menu, icon="plus")
        row.addWidget(self._add)
        several = (self._page, self._for_looks, self._for_maps, self._previous, self._next)
        self._of_several: dict[QWidget, str] = {part: part.toolTip() for part in several}
        """What works on several networks, and what it says of itself."""
        return bar

    def _of_looks(self) -> QWidget:
        """Return what belongs to looks alone: which rows there are."""
        self._for_looks = QWidget()
        row = QHBoxLayout(self._for_looks)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.SPACE_S)
        self._kinds: dict[str, QPushButton] = {}
        for kind, text, tip in KINDS:
            made = QPushButton(tr(text))
            made.setCheckable(True)
            made.setToolTip(tr(tip))
            made.setAccessibleName(tr(text))
            made.clicked.connect(lambda _checked=False, kind=kind: self._toggle(kind))
            self._kinds[kind] = made
            row.addWidget(made)
        return self._for_looks

    def _of_maps(self) -> QWidget:
        self._for_maps = QWidget()
        row = QHBoxLayout(self._for_maps)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.SPACE)
        methods = [(name, method.title) for name, method in MAP_METHODS.items()]
        self._method = Segmented(methods, lambda value: self._choose(method=value), tr("Method"))
        tools = [(value, tr(text), icon) for value, text, icon in TOOLS]
        self._tool = Segmented(tools, lambda value: self._choose(tool=value), tr("Tool"))
        tip = tr("Turns and mirrors the maps to lie on the first one as well as they can, so that what moved is seen")
        row.addWidget(self._method)
        row.addWidget(self._tool)
        row.addWidget(button(tr("Line up"), self._line_up, icon="arrow-clockwise", tip=tip))
        return self._for_maps

    def _bind(self) -> None:
        bind, step = self._desk.actions.bind, self._step
        bind("compare.next", lambda: step(1))
        bind("compare.previous", lambda: step(-1))
        for page, _ in PAGES:
            bind(f"compare.{page}", lambda page=page: self._choose(page=page))
        bind("compare.fit", self._looks.fit)
        bind("compare.make", self._make_all, lambda: any(one.set is None for one in self._networks))

    def showEvent(self, event: QShowEvent) -> None:
        """Look at a picture, where none is looked at yet, and which weights are on the disk."""
        super().showEvent(event)
        self._begin()
        self._desk.background.run(LOOKING, kept_models, self._take_kept)

    def _begin(self) -> None:
        state = self._session.state
        if self.isVisible() and state.current is None and len(state.shown):
            self._session.set_current(int(state.shown[0]))

    def _take_kept(self, kept: tuple[str, ...]) -> None:
        self._kept = kept
        self._show_heads()

    def _refresh(self) -> None:
        """Show what was chosen."""
        self._networks = compared(self._session.state, self._choices)
        self._show_controls()
        page = self._choices.page if len(self._networks) > 1 else "nothing"
        shown = {"looks": self._looks, "neighbours": self._neighbours, "maps": self._maps}.get(page, self._nothing)
        self._neighbours.show_networks(self._networks)  # it counts, and the heads of all pages say how many
        if shown is self._looks:
            self._looks.show_networks(self._networks, self._choices.kinds, self._head)
        elif shown is self._maps:
            self._maps.show_networks(self._networks, self._choices.method, self._choices.tool, self._head)
        self._show_strip(is_seen=shown is self._neighbours)
        self._pages.setCurrentWidget(shown)
        self._show_heads()
        self._show_current()

    def _show_strip(self, *, is_seen: bool) -> None:
        """Show the heads above a page that has no columns."""
        self._strip.setVisible(is_seen)
        if is_seen and [head.network for head in self._strip.findChildren(Head)] != self._networks:
            while (item := self._strip_at.takeAt(0)) is not None:
                item.widget().deleteLater()
            for network in self._networks:
                self._strip_at.addWidget(self._head(network), 1)

    def _show_controls(self) -> None:
        choices = self._choices
        self._page.set_value(choices.page)
        self._for_looks.setVisible(choices.page == "looks")
        self._for_maps.setVisible(choices.page == "maps")
        for kind, made in self._kinds.items():
            if made.isChecked() != (kind in choices.kinds):
                made.setChecked(kind in choices.kinds)
        self._method.set_value(choices.method)
        self._tool.set_value(choices.tool)
        self._add.setEnabled(len(self._networks) < MOST)
        is_comparing = len(self._networks) > 1
        for part, tip in self._of_several.items():
            part.setEnabled(is_comparing)
            part.setToolTip(tip if is_comparing else tr("There is only one network so far: add a second one."))

    def _show_current(self) -> None:
        state = self._session.state
        is_known = state.current is not None and state.table.contains(state.current)
        self._name.say(state.table.name(state.current) if is_known and state.current is not None else "")

    def _toggle(self, kind: str) -> None:
        """Show a row or not; one stays."""
        wanted = {*self._choices.kinds} ^ {kind}
        self._choose(kinds=tuple(name for name, *_ in KINDS if name in wanted) or (kind,))
        self._show_controls()

    def _step(self, by: int) -> None:
        """Go to the next picture of the selection, where several are selected, or of all that are shown."""
        state = self._session.state
        if len(state.selected) < 2:
            self._session.step(by)
            return
        ids = state.selected.tolist()
        place = ids.index(state.current) + by if state.current in ids else 0
        self._session.set_current(ids[min(max(place, 0), len(ids) - 1)])

    def _head(self, network: Network) -> Head:
        head = Head(network, can_go=len(self._networks) > 2)
        head.removed.connect(lambda: self._remove(network))
        head.changed.connect(lambda: self._show_change_menu(head))
        head.wanted.connect(lambda: self._make(network))
        self._heads.append(head)
        head.destroyed.connect(lambda: self._heads.remove(head) if head in self._heads else None)
        self._tell(head)
        return head

    def _show_heads(self) -> None:
        for head in self._heads:
            self._tell(head)
        known = [(one.name, self._neighbours.accuracy(one)) for one in self._networks]
        text = verdict([(name, found) for name, found in known if found is not None])
        self._verdict.setText(text)
        self._verdict.setVisible(bool(text))

    def _tell(self, head: Head) -> None:
        """Say of a network how well its neighbours tell labels, and what it lacks."""
        state, network = self._session.state, head.network
        job = lacking_job(state.jobs, state.project, network)
        if job is not None:
            share = f" {round(100 * job.share)} %" if job.share is not None else ""
            head.say(f"{job.title}{share} …", can_make=False)
        elif network.set is None and network.model in WEIGHTS and network.model not in self._kept:
            head.say(tr("its weights are not on this computer"), can_make=False)
        elif network.set is None:
            head.say(tr("no features of these pictures yet"), can_make=True)
        elif not self._neighbours.has_neighbours(network):
            head.say(tr("set {number}: neighbours not found yet", number=network.set.number), can_make=True)
        else:
            found = self._neighbours.accuracy(network)
            head.say(_accuracy_in_words(network, found), can_make=False, is_accuracy=found is not None)

    def _others(self) -> list[tuple[str, str]]:
        there = {network.key for network in self._networks}
        return [(key, text) for key, text in choosable(self._session.state, self._kept) if key not in there]

    def _show_add_menu(self) -> None:
        menu = QMenu(self)
        for key, text in self._others():
            menu.addAction(text, lambda key=key: self._use([*self._keys, key]))
        menu.addSeparator()
        menu.addAction(tr("More networks…"), lambda: self._session.go("models"))
        menu.popup(self._add.mapToGlobal(self._add.rect().bottomLeft()))

    def _show_change_menu(self, head: Head) -> None:
        menu = QMenu(self)
        for key, text in self._others():
            changed = [key if one == head.network.key else one for one in self._keys]
            menu.addAction(text, lambda changed=changed: self._use(changed))
        menu.addSeparator()
        menu.addAction(tr("More networks…"), lambda: self._session.go("models"))
        menu.popup(head.mapToGlobal(head.rect().bottomLeft()))

    @property
    def _keys(self) -> list[str]:
        return [network.key for network in self._networks]

    def _use(self, keys: Sequence[str]) -> None:
        self._choose(models=tuple(keys))

    def _remove(self, network: Network) -> None:
        self._use([key for key in self._keys if key != network.key])

    def _make(self, network: Network) -> None:
        """Let a network look at all pictures, and find who is near whom."""
        project = self._session.state.project
        if project is not None:
            self._run_in_turn(commands_for(project, network), network)

    def _make_all(self) -> None:
        for network in self._networks:
            if network.set is None or not self._neighbours.has_neighbours(network):
                self._make(network)

    def _make_map(self, key: str) -> None:
        """Make the map of a network, and first what it is made from; it lies on that of the first one."""
        project = self._session.state.project
        network = next((one for one in self._networks if one.key == key), None)
        if project is None or network is None:
            return
        before = [] if network.set else commands_for(project, network)
        last = map_command(project, network, self._choices.method, self._networks[0])
        self._run_in_turn([*before, last], network)

    def _line_up(self) -> None:
        for network in self._networks[1:]:
            self._make_map(network.key)

    def _run_in_turn(self, commands: Sequence[Sequence[str]], network: Network) -> None:
        """Start a command, and the next one when it has done what it should."""
        titles = {
            "embed": tr("Compute features by {network}", network=network.name),
            "index": tr("Neighbours by {network}", network=network.name),
            "map": tr("Map by {network}", network=network.name),
        }
        self._desk.jobs.chain([(argv, titles[argv[0]]) for argv in commands])


def _accuracy_in_words(network: Network, found: Accuracy | None) -> str:
    """Return how well the neighbours of a network tell labels, and which features they are of."""
    assert network.set is not None
    of = tr("set {number}", number=network.set.number)
    if found is None:
        return of
    asked = f"{found.asked:,} {found.split}".strip()
    return tr("20-NN {share} % of {asked} pictures · {of}", share=f"{100 * found.share:.1f}", asked=asked, of=of)
