"""Everything a person can do that has a name: one table, from which menus, shortcuts, palette and cheat sheet come.

A row says what an action is; who can do it binds a function to it. A view that is not loaded yet is brought to the
front first, and binds then.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QToolButton, QWidget

from dinoviz import theme
from dinoviz.controls import IconButton
from dinoviz.session import Session
from dinoviz.watching import follow
from dinoviz.words import tr


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that can be done.

    Args:
        id: place and name, as ``look.next``.
        text: what it does, in a few words.
        keys: shortcut, as Qt writes them; empty for none. One key may mean different things in different places.
        place: view in which the shortcut holds; empty for everywhere.
        icon: of ``resources/icons``.
        tip: one more sentence.
        words: further words it is found by in the palette.
        menu: heading it stands under in the cheat sheet, where that is not its place.
    """

    id: str
    text: str
    keys: str = ""
    place: str = ""
    icon: str = ""
    tip: str = ""
    words: str = ""
    menu: str = ""


ACTIONS: tuple[Action, ...] = (
    # The window.
    Action(id="file.open", text="Open folder…", keys="Ctrl+O", icon="folder-open", words="pictures photos import"),
    Action(id="file.open_project", text="Open project…", keys="Ctrl+Shift+O", icon="stack"),
    Action(id="file.sample", text="Try the sample", icon="flask", words="demo example"),
    Action(id="file.rescan", text="Look for new and changed pictures", keys="F5", icon="arrow-clockwise", words="scan"),
    Action(id="file.close", text="Close project", keys="Ctrl+W"),
    Action(id="file.quit", text="Quit", keys="Ctrl+Q"),
    Action(id="edit.undo", text="Undo", keys="Ctrl+Z", icon="arrow-counter-clockwise"),
    Action(id="edit.redo", text="Redo", keys="Ctrl+Shift+Z", icon="arrow-clockwise"),
    Action(id="edit.select_all", text="Select all shown", keys="Ctrl+A", icon="selection-all"),
    Action(id="edit.select_none", text="Select nothing", keys="Ctrl+Shift+A", icon="x", words="clear deselect"),
    Action(id="edit.select_inverse", text="Invert the selection", keys="Ctrl+I", icon="selection-inverse"),
    Action(id="edit.filter", text="Search by name", keys="Ctrl+F", icon="magnifying-glass", words="filter find text"),
    Action(id="edit.clear_filter", text="Clear the filter", keys="Ctrl+Shift+F", icon="funnel"),
    Action(id="go.library", text="Library", keys="Ctrl+1", icon="images", words="grid thumbnails pictures"),
    Action(id="go.look", text="Look", keys="Ctrl+2", icon="eye", words="attention heads mask pca"),
    Action(id="go.find", text="Find", keys="Ctrl+3", icon="magnifying-glass", words="search similar duplicates"),
    Action(id="go.map", text="Map", keys="Ctrl+4", icon="chart-scatter", words="tsne umap scatter clusters"),
    Action(id="go.train", text="Train", keys="Ctrl+5", icon="graduation-cap", words="run learn fine-tune"),
    Action(id="go.compare", text="Compare", keys="Ctrl+6", icon="scales", words="backbones side by side"),
    Action(id="go.models", text="Models", keys="Ctrl+7", icon="cube", words="backbones weights download import"),
    Action(id="go.welcome", text="Welcome page", words="recent projects start"),
    Action(id="view.palette", text="Command palette", keys="Ctrl+K", icon="command"),
    Action(id="view.keys", text="Keys", keys="?", icon="keyboard", words="shortcuts cheat sheet help"),
    Action(id="view.preferences", text="Preferences", keys="Ctrl+,", icon="gear", words="settings options theme"),
    Action(id="view.inspector", text="Show or hide the inspector", keys="Ctrl+J", icon="sidebar-simple"),
    Action(id="view.jobs", text="Show or hide jobs", keys="Ctrl+Shift+J", icon="list-bullets"),
    Action(id="view.light", text="Light colours", icon="sun", words="theme"),
    Action(id="view.dark", text="Dark colours", icon="moon", words="theme"),
    Action(id="view.system", text="Colours of the system", icon="circle", words="theme auto"),
    Action(id="view.full", text="Full screen", keys="F11", icon="arrows-out"),
    # Pictures: what is selected, or else the current one.
    Action(id="picture.copy", text="Copy image", keys="Ctrl+C", icon="copy", menu="pictures"),
    Action(id="picture.copy_path", text="Copy path", keys="Ctrl+Shift+C", icon="copy-simple", menu="pictures"),
    Action(id="picture.reveal", text="Reveal in the file manager", keys="Ctrl+R", icon="folder", menu="pictures"),
    Action(id="picture.look", text="Look at it", icon="eye", menu="pictures", words="attention"),
    Action(id="picture.similar", text="Find similar pictures", keys="S", icon="magnifying-glass", menu="pictures"),
    Action(id="picture.hide", text="Leave out of the project", keys="Del", icon="eye-slash", menu="pictures",
           tip="The file stays where it is.", words="delete remove"),
    Action(id="picture.restore", text="Take back into the project", icon="eye", menu="pictures"),
    Action(id="picture.rate_0", text="No stars", keys="0", place="library", menu="pictures"),
    Action(id="picture.rate_1", text="One star", keys="1", place="library", menu="pictures", icon="star"),
    Action(id="picture.rate_2", text="Two stars", keys="2", place="library", menu="pictures", icon="star"),
    Action(id="picture.rate_3", text="Three stars", keys="3", place="library", menu="pictures", icon="star"),
    Action(id="picture.rate_4", text="Four stars", keys="4", place="library", menu="pictures", icon="star"),
    Action(id="picture.rate_5", text="Five stars", keys="5", place="library", menu="pictures", icon="star"),
    Action(id="selection.keep", text="Keep the selection under a name…", keys="Ctrl+Alt+S", icon="push-pin",
           menu="pictures", words="save named set"),
    Action(id="selection.recall", text="Show a kept selection…", icon="selection", menu="pictures", words="named set"),
    # Library.
    Action(id="library.larger", text="Larger pictures", keys="+", place="library", icon="magnifying-glass-plus",
           words="zoom in"),
    Action(id="library.smaller", text="Smaller pictures", keys="-", place="library", icon="magnifying-glass-minus",
           words="zoom out"),
    Action(id="library.tag", text="Tag…", keys="T", place="library", icon="hash", words="mark keyword"),
    Action(id="library.label", text="Correct the label…", keys="L", place="library", icon="tag", words="class"),
    Action(id="library.like", text="Order by similarity to this picture", keys="Shift+S", place="library",
           icon="sort-descending", words="sort nearest"),
    Action(id="library.unreadable", text="Show files that cannot be read", place="library", icon="warning",
           words="problems broken damaged"),
    Action(id="library.left_out", text="Show what was left out of the project", place="library", icon="eye-slash",
           words="hidden deleted restore"),
    Action(id="library.retry", text="Try unreadable files again", place="library", icon="arrow-clockwise",
           words="scan problems"),
    # Look.
    Action(id="look.next", text="Next picture", keys="Right", place="look", icon="caret-right"),
    Action(id="look.previous", text="Previous picture", keys="Left", place="look", icon="caret-left"),
    Action(id="look.attention", text="Show attention", keys="A", place="look", words="heads heat map"),
    Action(id="look.mask", text="Show the mask", keys="M", place="look", words="threshold contour area segment"),
    Action(id="look.colours", text="Show colours of the patches", keys="C", place="look", words="pca components"),
    Action(id="look.likeness", text="Show what is like a patch", keys="L", place="look", words="similarity cosine"),
    Action(id="look.matches", text="Show matches of two pictures", keys="T", place="look", words="correspondence"),
    Action(id="look.picture", text="Show the picture alone", keys="P", place="look"),
    Action(id="look.query", text="[CLS] looks, or the patch under the mouse", keys="Q", place="look", icon="crosshair"),
    Action(id="look.layer_up", text="Next layer", keys="PgUp", place="look"),
    Action(id="look.layer_down", text="Layer before", keys="PgDown", place="look"),
    Action(id="look.beside", text="Second network side by side", keys="Ctrl+B", place="look", icon="split-horizontal",
           words="compare backbones"),
    Action(id="look.brush", text="Brush on the mask", keys="B", place="look", icon="paint-brush", words="clean edit"),
    Action(id="look.invert", text="Invert the mask", keys="I", place="look", icon="selection-inverse",
           words="inside outside background"),
    Action(id="look.largest", text="Keep the largest part of the mask", keys="O", place="look", icon="circle",
           words="island clean connected"),
    Action(id="look.save_picture", text="Save picture as seen…", keys="Ctrl+S", place="look", icon="download-simple"),
    Action(id="look.save_mask", text="Save mask…", keys="Ctrl+Shift+S", place="look", icon="selection"),
    Action(id="look.copy_seen", text="Copy picture as seen", keys="Ctrl+Alt+C", place="look", icon="copy"),
    Action(id="look.copy_overlay", text="Copy overlay alone", place="look", icon="copy-simple"),
    # Find.
    Action(id="find.search", text="Search for pictures", place="find", icon="magnifying-glass", words="similar"),
    Action(id="find.duplicates", text="Copies of the same picture", place="find", icon="copy", words="duplicates"),
    Action(id="find.outliers", text="Outliers", place="find", icon="target", words="odd strange unusual"),
    Action(id="find.labels", text="Doubtful labels", place="find", icon="tag", words="errors mistakes"),
    Action(id="find.typical", text="Typical pictures", place="find", icon="star", words="prototypes examples"),
    Action(id="find.use_current", text="Look for the current picture", place="find", icon="crosshair"),
    Action(id="find.choose_file", text="Choose a picture to look for…", place="find", icon="folder-open",
           words="query disk"),
    Action(id="find.paste", text="Look for the copied picture", keys="Ctrl+V", place="find", icon="clipboard-text"),
    Action(id="find.clear", text="Look for nothing", place="find", icon="x", words="clear query reset"),
    Action(id="find.whole", text="Look for the whole picture again", place="find", icon="frame-corners",
           tip="Takes the box away.", words="box part"),
    Action(id="find.more_like", text="More like this", keys="M", place="find", icon="magnifying-glass",
           words="similar chain"),
    Action(id="find.add_current", text="Add to what is looked for", keys="+", place="find", icon="plus",
           tip="Then results are like all of them, or like any of them.", words="several query mean"),
    Action(id="find.back", text="Back", keys="Alt+Left", place="find", icon="arrow-left", words="history chain"),
    Action(id="find.forward", text="Forward", keys="Alt+Right", place="find", icon="arrow-right",
           words="history chain"),
    Action(id="find.select_found", text="Select all results", place="find", icon="selection-all"),
    Action(id="find.show_on_map", text="Show the results on the map", place="find", icon="chart-scatter"),
    Action(id="find.why", text="Why is this found?", keys="W", place="find", icon="question", words="explain heat map"),
    Action(id="find.show_in_library", text="Show the results in the Library", place="find", icon="images",
           words="filter"),
    Action(id="find.tag", text="Tag…", keys="T", place="find", icon="hash", words="mark keyword"),
    Action(id="find.next", text="Next to work through", keys="Right", place="find", icon="caret-right", words="skip"),
    Action(id="find.previous", text="Previous to work through", keys="Left", place="find", icon="caret-left"),
    Action(id="find.fine", text="All is well: keep as it is", keys="K", place="find", icon="check",
           tip="No copies of each other, no stranger, the right label.", words="confirm not duplicates keep all"),
    Action(id="find.accept", text="Take what is proposed", keys="Return", place="find", icon="check-circle",
           tip="Of copies the framed one stays, the others are left out; a label becomes the proposed one.",
           words="correct label keep best"),
    Action(id="find.other_label", text="Another label…", keys="L", place="find", icon="pencil-simple", words="correct"),
    Action(id="find.leave_out", text="Leave this picture out", keys="H", place="find", icon="eye-slash",
           words="hide remove"),
    *(Action(id=f"find.keep_{n}", text=f"Keep picture {n}, leave out the others", keys=str(n), place="find",
             words="duplicates") for n in range(1, 10)),
    Action(id="find.look_again", text="Look for copies, outliers and doubtful labels again", place="find",
           icon="arrow-clockwise", words="duplicates oddities"),
    # Map.
    Action(id="map.pan", text="Move the map, pick pictures", keys="V", place="map", icon="hand",
           tip="Drag moves the map, the wheel zooms, a click picks a picture."),
    Action(id="map.lasso", text="Lasso", keys="L", place="map", icon="lasso",
           tip="Draw around pictures to select them. Shift adds, Alt takes away, Ctrl turns over."),
    Action(id="map.rectangle", text="Rectangle", keys="R", place="map", icon="selection",
           tip="Select the pictures in a rectangle. Shift adds, Alt takes away, Ctrl turns over."),
    Action(id="map.brush", text="Brush", keys="B", place="map", icon="paint-brush",
           tip="Paint over pictures to select them. The wheel or [ and ] set its size."),
    Action(id="map.fit", text="Show the whole map", keys="0", place="map", icon="frame-corners"),
    Action(id="map.current", text="Show the current picture on the map", keys="C", place="map", icon="crosshair"),
    Action(id="map.density", text="Density", keys="D", place="map", icon="gradient",
           tip="Colour the map by how many pictures lie where."),
    Action(id="map.thumbnails", text="Thumbnails everywhere", keys="T", place="map", icon="images",
           tip="Show pictures in place of points, also from afar."),
    Action(id="map.cluster", text="Select the group of the current picture", keys="K", place="map",
           icon="circles-four", words="cluster label class"),
    Action(id="map.like", text="Select its most similar pictures", keys="N", place="map", icon="magic-wand",
           words="neighbours like this"),
    Action(id="map.grow", text="Grow the selection", keys="G", place="map", icon="plus-circle",
           tip="Add the most similar pictures of each selected one.", words="neighbours expand"),
    Action(id="map.shrink", text="Shrink the selection", keys="Shift+G", place="map", icon="minus-circle",
           tip="Keep only pictures most of whose similar ones are selected too.", words="neighbours"),
    Action(id="map.copy", text="Copy the map as an image", keys="Ctrl+Alt+C", place="map", icon="copy"),
    Action(id="map.save_png", text="Save the map as PNG…", place="map", icon="image", words="export picture"),
    Action(id="map.save_svg", text="Save the map as SVG…", place="map", icon="export", words="export drawing vector"),
    Action(id="map.make", text="Make the map", place="map", icon="map-trifold", words="tsne umap pca"),
    Action(id="map.update", text="Bring the map up to date", place="map", icon="arrow-clockwise", words="place new"),
    Action(id="map.again", text="Make the map anew", place="map", words="again remake"),
    Action(id="map.clusters", text="Find clusters", place="map", icon="circles-four", words="kmeans groups"),
    # Train.
    Action(id="train.new", text="New run", keys="N", place="train", icon="plus", words="train learn fine-tune start"),
    Action(id="train.start", text="Start training", keys="Ctrl+Return", place="train", icon="play", words="run queue"),
    Action(id="train.stop", text="Stop the run", place="train", icon="stop", tip="It ends with a checkpoint.",
           words="cancel end pause"),
    Action(id="train.resume", text="Resume the run", place="train", icon="play", words="continue go on"),
    Action(id="train.use", text="Use this backbone", place="train", icon="brain", words="model look"),
    Action(id="train.embed", text="Compute features with it and make the map", place="train", icon="map-trifold",
           words="features tsne"),
    Action(id="train.another_draw", text="Another draw of the crops", keys="D", place="train", icon="arrow-clockwise"),
    Action(id="train.next_step", text="Next step of the probe pictures", keys="]", place="train", icon="arrow-right"),
    Action(id="train.previous_step", text="Previous step of the probe pictures", keys="[", place="train",
           icon="arrow-left"),
    Action(id="train.play", text="Play the probe pictures over training", keys="P", place="train", icon="play"),
    Action(id="train.import", text="Read a run file…", place="train", icon="upload-simple", words="toml settings open"),
    Action(id="train.export", text="Save as a run file…", place="train", icon="download-simple",
           words="toml settings export"),
    Action(id="train.copy_command", text="Copy as command", place="train", icon="command", words="terminal cli"),
    Action(id="train.trash", text="Move the run to the trash…", place="train", icon="trash", words="delete remove"),
    # Compare.
    Action(id="compare.next", text="Next picture", keys="Right", place="compare", icon="caret-right"),
    Action(id="compare.previous", text="Previous picture", keys="Left", place="compare", icon="caret-left"),
    Action(id="compare.looks", text="What each network sees", keys="1", place="compare", words="attention mask pca"),
    Action(id="compare.neighbours", text="Neighbours that changed", keys="2", place="compare", words="nearest similar"),
    Action(id="compare.maps", text="Maps side by side", keys="3", place="compare", words="tsne umap aligned"),
    Action(id="compare.fit", text="Fit the pictures", keys="F", place="compare", icon="frame-corners", words="zoom"),
    Action(id="compare.make", text="Make what is missing", place="compare", icon="play", words="embed features index"),
    # Models.
    Action(id="models.import", text="Import weights…", place="models", icon="upload-simple", words="checkpoint pth"),
    Action(id="models.search", text="Search models", keys="/", place="models", icon="magnifying-glass"),
    Action(id="models.refresh", text="Look again what is here", place="models", icon="arrow-clockwise"),
    # Exports.
    Action(id="export.embeddings", text="Export features…", icon="export", menu="export", words="vectors csv npy"),
    Action(id="export.patches", text="Export patch features…", icon="export", menu="export", words="zarr npz"),
    Action(id="export.map", text="Export the map…", icon="export", menu="export", words="csv svg positions"),
    Action(id="export.labels", text="Export labels…", icon="export", menu="export", words="csv corrected"),
    Action(id="export.masks", text="Export masks…", icon="export", place="look", menu="export",
           words="coco png labelme yolo"),
    Action(id="export.attention", text="Export attention…", place="look", icon="export", menu="export",
           words="heads npz overlay"),
    Action(id="export.backbone", text="Export the backbone…", icon="export", menu="export", words="onnx timm"),
)  # fmt: skip


class Actions(QObject):
    """The actions of one window.

    Args:
        session: says which place is in front.
        window: the widget that shortcuts hold in.
    """

    changed = Signal()
    """Shortcuts or what is possible have changed."""

    def __init__(self, session: Session, window: QWidget, keys: Mapping[str, str] | None = None) -> None:
        super().__init__(window)
        self._session = session
        self._window = window
        self._rows = {row.id: row for row in ACTIONS}
        self._do: dict[str, Callable[[], object]] = {}
        self._can: dict[str, Callable[[], bool]] = {}
        self._actions: dict[str, QAction] = {}
        for row in ACTIONS:
            self._actions[row.id] = self._made(row)
        self._keys = {row.id: row.keys for row in ACTIONS}
        self.set_keys(keys or {})
        session.changed.connect(self._place_changed)
        self._draw_icons()
        follow(self, theme.changed, self._draw_icons)

    def _made(self, row: Action) -> QAction:
        made = QAction(tr(row.text), self._window)
        made.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
        made.setAutoRepeat(row.id.endswith(("next", "previous")))
        made.triggered.connect(lambda _checked=False: self.trigger(row.id))
        if row.tip:
            made.setToolTip(tr(row.tip))
        self._window.addAction(made)
        return made

    def _draw_icons(self) -> None:
        for name, row in self._rows.items():
            if row.icon:
                self._actions[name].setIcon(theme.icon(row.icon))

    def rows(self) -> tuple[Action, ...]:
        """Return every action, in the order of the table."""
        return tuple(self._rows.values())

    def row(self, name: str) -> Action:
        """Return what an action is."""
        return self._rows[name]

    def keys(self, name: str) -> str:
        """Return the shortcut of an action, empty for none."""
        return self._keys[name]

    def set_keys(self, keys: Mapping[str, str]) -> None:
        """Take other shortcuts for some actions; unknown names are left out."""
        for name, row in self._rows.items():
            self._keys[name] = keys.get(name, row.keys)
        self._place_changed(frozenset({"place"}))
        for name in self._rows:
            self._tell_tip(name)
        self.changed.emit()

    def conflict(self, name: str, keys: str) -> str | None:
        """Return the action that a shortcut belongs to already where both would hold, None where it is free."""
        wanted, place = QKeySequence(keys), self._rows[name].place
        for other, row in self._rows.items():
            is_same = other != name and keys and QKeySequence(self._keys[other]) == wanted
            if is_same and (not place or not row.place or place == row.place):
                return other
        return None

    def bind(self, name: str, do: Callable[[], object], can: Callable[[], bool] | None = None) -> None:
        """Say what an action does, and when it can be done.

        Args:
            name: a row of ``ACTIONS``.
            do: does it.
            can: tells whether there is something to do; always where it is not given.
        """
        if name not in self._rows:
            raise KeyError(f"'{name}' is no row of ACTIONS")
        self._do[name] = do
        if can:
            self._can[name] = can

    def can(self, name: str) -> bool:
        """Tell whether an action can be done now."""
        if name in self._do:
            return self._can[name]() if name in self._can else True
        return bool(self._rows[name].place) and self._session.state.project is not None

    def trigger(self, name: str) -> None:
        """Do it, where it can be done; a view that is not there yet is brought to the front first."""
        row = self._rows[name]
        if name not in self._do and row.place:
            self._session.go(row.place)
        if name in self._do and self.can(name):
            self._do[name]()

    def qaction(self, name: str) -> QAction:
        """Return the action for a menu."""
        action = self._actions[name]
        action.setEnabled(True)
        return action

    def button(self, name: str, *, with_text: bool = False) -> QToolButton:
        """Return a button that does it; its tooltip names the shortcut."""
        row = self._rows[name]
        text = tr(row.text) if with_text else ""
        made = IconButton(row.icon or "circle", self.tip(name), lambda: self.trigger(name), text=text)
        made.setAccessibleName(tr(row.text))
        self.changed.connect(lambda: made.setToolTip(self.tip(name)))
        return made

    def tip(self, name: str) -> str:
        """Return what an action does and its shortcut."""
        row = self._rows[name]
        keys = QKeySequence(self._keys[name]).toString(QKeySequence.SequenceFormat.NativeText)
        first = f"{tr(row.text)}  {keys}" if keys else tr(row.text)
        return f"{first}\n{tr(row.tip)}" if row.tip else first

    def _tell_tip(self, name: str) -> None:
        self._actions[name].setToolTip(self.tip(name))

    def _place_changed(self, changed: frozenset[str]) -> None:
        """Let the shortcuts of the place in front hold, and of no other."""
        if "place" not in changed:
            return
        for name, row in self._rows.items():
            holds = not row.place or row.place == self._session.state.place
            keys = QKeySequence(self._keys[name] if holds else "")
            if self._actions[name].shortcut() != keys:
                self._actions[name].setShortcut(keys)
