"""What a drop means, said before the person lets go: a pure function from what is dragged to an `Intent`.

It looks at few files and for a short time, so that it answers at once for a hundred thousand of them and on a slow
disk; who shows it asks it off the GUI thread all the same, since a dead network drive can hold up any look. Nothing is
opened but the first bytes of files whose names say nothing.
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dinoviz.words import counted, tr
from engine.catalogue import WEIGHT_SUFFIXES

PROJECT_SUFFIX = ".dinoviz"
CATALOGUE = "project.sqlite"
BACKBONE = "backbone.safetensors"
MODEL_FILES = (BACKBONE, "model.safetensors", "pytorch_model.bin")
"""Weights in the folder of a run, or in that of a published model."""
MOST_LOOKED_AT = 200
"""Files of one drop that are looked at on the disk; the others are told by their names."""
MOST_NAMED = 5_000
"""Files of one drop whose names are read, in some 30 ms; who drops more means their folder."""
MOST_ASKED = 64
"""Pictures of one question to the engine (``questions.MOST_PICTURES``)."""
COUNT_FOR_S = 0.05
"""How long pictures of a folder are counted: half of what a person takes for at once."""
FIRST_BYTES = 512
"""Of a file, enough to tell a picture, or text, from the rest."""
OTHERS = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a compressed archive"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
)
"""How files that are no pictures begin, in letters large or small, and what they are."""
OWN_IDS = "application/x-dinoviz-ids"
"""Ids in decimal, separated by blanks: pictures of this window that are dragged."""

Kind = Literal[
    "open-folder",
    "open-project",
    "rescan",
    "import-weights",
    "use-run",
    "find-like",
    "find-image",
    "show-pictures",
    "refuse",
]
"""What is done: ``rescan`` looks for new pictures in the open folder; ``use-run`` takes a run of the open project as
the backbone; ``find-like`` asks with files and ``find-image`` with pixels that come without a file; ``show-pictures``
selects pictures of the open project; ``refuse`` does nothing but say why."""
What = Literal["pictures", "weights", "folder", "project", "run", "model", "empty", "missing", "disguised", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What is being dragged.

    Args:
        paths: files and folders of this computer.
        addresses: of the web.
        has_image: pixels come along, as from a web browser.
    """

    paths: tuple[Path, ...] = ()
    addresses: tuple[str, ...] = ()
    has_image: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """Where it is dropped: the place shown, the open project's folder and that of its pictures."""

    place: str = "library"
    project: Path | None = None
    pictures_folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What will happen: a sentence before, and all that is needed after letting go.

    Args:
        kind: what is done.
        sentence: says it; for ``refuse``, why not.
        hint: more about it; for ``refuse``, what is accepted.
        paths: what it is done with.
    """

    kind: Kind
    sentence: str
    hint: str = ""
    paths: tuple[Path, ...] = ()

    @property
    def is_accepted(self) -> bool:
        """Letting go does something."""
        return self.kind != "refuse"


def intent_of(dropped: Dropped, here: Here) -> Intent:
    """Return what a drop means at a place."""
    if dropped.paths:
        return _of_paths(dropped.paths, here)
    if dropped.has_image:
        return _of_image(here)
    if dropped.addresses:
        return _refusal(
            tr("This is an address of the web, and dinoviz never uses the network by itself."),
            tr("Download it first, then drop the file."),
        )
    return _refusal(tr("There is no file in what you are dragging."), _accepted())


def _accepted() -> str:
    return tr("You can drop pictures, a folder of pictures, a project, or a file of weights.")


def _refusal(sentence: str, hint: str) -> Intent:
    return Intent(kind="refuse", sentence=sentence, hint=hint)


def _of_image(here: Here) -> Intent:
    if here.project is None:
        return _open_first()
    return Intent(
        kind="find-image", sentence=tr("Look for pictures like this one"), hint=tr("In the pictures of this project.")
    )


def _open_first() -> Intent:
    return _refusal(
        tr("Open a folder of pictures first; then this one can be looked for in it."),
        tr("Drop the folder, not single pictures."),
    )


def _of_paths(paths: Sequence[Path], here: Here) -> Intent:
    """Return what files and folders mean: of one sort, all that are broken aside."""
    sorts: dict[What, list[Path]] = {}
    for path, what in zip(paths, _told_apart(paths), strict=False):
        sorts.setdefault(what, []).append(path)
    good = {what: found for what, found in sorts.items() if what not in ("empty", "missing", "disguised", "other")}
    if len(good) > 1:
        return _mixed(good)
    if not good:
        return _nothing_usable(sorts)
    what, found = next(iter(good.items()))
    if what != "pictures" and len(found) > 1:
        return _too_many(what, len(found))
    intent = _MEANINGS[what](found, here)
    left_out = sum(len(rest) for rest in sorts.values()) - len(found)
    if left_out and intent.is_accepted:
        aside = tr("{files} left out.", files=counted(left_out, tr("other file is"), tr("other files are")))
        return Intent(
            kind=intent.kind, sentence=intent.sentence, hint=f"{intent.hint} {aside}".strip(), paths=intent.paths
        )
    return intent


def _told_apart(paths: Sequence[Path]) -> Iterator[What]:
    """Yield what each path is: by a look at the first ones, by the names of some more; the rest is not named."""
    from engine.images import SUFFIX

    for number, path in enumerate(paths[:MOST_NAMED]):
        if number < MOST_LOOKED_AT:
            yield _looked_at(path)
        elif SUFFIX.search(path.name):
            yield "pictures"
        else:
            yield "weights" if path.suffix.lower() in WEIGHT_SUFFIXES else "other"


def _looked_at(path: Path) -> What:
    """Return what a path is; links are followed."""
    from engine.images import SUFFIX

    try:
        about = path.stat()
    except (OSError, ValueError):  # a name with a null byte is no path
        return "missing"
    if stat.S_ISDIR(about.st_mode):
        return _folder_of(path)
    if not stat.S_ISREG(about.st_mode):
        return "other"
    if path.name == CATALOGUE:
        return "project"
    if about.st_size == 0:
        return "empty"
    if path.suffix.lower() in WEIGHT_SUFFIXES:
        return "weights"
    first = _first_bytes(path)
    if SUFFIX.search(path.name):  # one that cannot be told from a damaged picture is the engine's to judge
        return "disguised" if _other_than_picture(first) else "pictures"
    return "pictures" if _begins_as_picture(first) else "other"


def _folder_of(path: Path) -> What:
    try:
        if (path / CATALOGUE).is_file():
            return "project"
        if (path / "plan.json").is_file() and ((path / "checkpoints").is_dir() or (path / BACKBONE).is_file()):
            return "run"
        if (path / "config.json").is_file() and any((path / name).is_file() for name in MODEL_FILES):
            return "model"
    except OSError:
        return "missing"
    return "folder"


def _first_bytes(path: Path) -> bytes:
    """Return how a file begins; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(FIRST_BYTES)
    except OSError:
        return b""


def _begins_as_picture(first: bytes) -> bool:
    from engine.images import MAGIC

    return bool(MAGIC.match(first))


def _other_than_picture(first: bytes) -> str:
    """Return what a file surely is, empty where it is a picture or nobody knows."""
    if not first or _begins_as_picture(first):
        return ""
    small = first.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for begin, text in OTHERS:
        if small.startswith(begin.lower()):
            return tr(text)
    try:
        said = first.decode()
    except UnicodeDecodeError as problem:
        if problem.start < len(first) - 3:  # else a letter was cut through
            return ""
        said = first[: problem.start].decode()
    return tr("text") if all(letter.isprintable() or letter.isspace() for letter in said) else ""


def _mixed(sorts: dict[What, list[Path]]) -> Intent:
    named = [counted(len(found), *_NOUNS[what]) for what, found in sorts.items()]
    listed = tr("{first} and {last}", first=", ".join(named[:-1]), last=named[-1])
    return _refusal(
        tr("These are different things: {listed}.", listed=listed), tr("Drop things of one sort at a time.")
    )


def _too_many(what: What, n: int) -> Intent:
    return _refusal(
        tr("These are {things}, and one can be opened at a time.", things=counted(n, *_NOUNS[what])),
        tr("Drop one of them. A folder may have other folders inside: all of its pictures are opened."),
    )


def _nothing_usable(sorts: dict[What, list[Path]]) -> Intent:
    """Say why nothing of a drop can be used."""
    what, found = max(sorts.items(), key=lambda item: len(item[1]))
    name = found[0].name or str(found[0])
    n = sum(len(rest) for rest in sorts.values())
    if n == 1 and what == "empty":
        return _refusal(tr("'{name}' is empty: it holds no bytes.", name=name), tr("Perhaps it was not copied whole."))
    if n == 1 and what == "missing":
        return _refusal(_why_missing(found[0], name), tr("Perhaps it was moved, or its disk is not connected."))
    if n == 1 and what == "disguised":
        told = tr(
            "'{name}' is called a picture, but it is {what}.",
            name=name,
            what=_other_than_picture(_first_bytes(found[0])),
        )
        return _refusal(told, _accepted())
    if n == 1:
        return _refusal(tr("'{name}' is neither a picture nor weights.", name=name), _accepted())
    reasons = {
        "empty": tr("Of these {n} files none holds any bytes.", n=n),
        "missing": tr("Of these {n} files none can be reached.", n=n),
        "disguised": tr("Of these {n} files none is a picture, whatever they are called.", n=n),
        "other": tr("Of these {n} files none is a picture or weights.", n=n),
    }
    return _refusal(reasons[what], _accepted())


def _why_missing(path: Path, name: str) -> str:
    try:
        path.stat()
    except OSError as problem:
        if problem.errno in (errno.EACCES, errno.EPERM):
            return tr("You may not read '{name}'.", name=name)
        if path.is_symlink():
            return tr("'{name}' is a link to something that is not there.", name=name)
    except ValueError:
        pass
    return tr("'{name}' is not there any more, or cannot be reached.", name=name)


def _project(found: Sequence[Path], here: Here) -> Intent:
    folder = found[0].parent if found[0].name == CATALOGUE else found[0]
    name = folder.name.removesuffix(PROJECT_SUFFIX)
    if here.project is not None and _is_same(folder, here.project):
        return _refusal(tr("The project {name} is open already.", name=name), _accepted())
    return Intent(kind="open-project", sentence=tr("Open the project {name}", name=name), paths=(folder,))


def _folder(found: Sequence[Path], here: Here) -> Intent:
    folder, name = found[0], found[0].name
    if not name:
        return _refusal(tr("A whole disk cannot be opened."), tr("Drop a folder of it."))
    n, is_all = count_pictures(folder)
    if here.pictures_folder is not None and _is_same(folder, here.pictures_folder):
        return Intent(
            kind="rescan",
            sentence=tr("Look for new pictures in {name}", name=name),
            hint=tr("It is the folder that is open."),
            paths=(folder,),
        )
    if n == 0 and is_all:
        return _refusal(
            tr("There is no picture in the folder {name}.", name=name), tr("Drop a folder that holds pictures.")
        )
    shown = counted(n, tr("picture"), tr("pictures")) if is_all else tr("more than {n} pictures", n=n) if n else ""
    sentence = tr("Open the folder {name}", name=name)
    kept = folder.with_name(folder.name + PROJECT_SUFFIX)
    again = (
        tr("Its project is there, with everything you did before.")
        if (kept / CATALOGUE).is_file()
        else tr("The pictures stay where they are and are never changed.")
    )
    return Intent(
        kind="open-folder", sentence=f"{sentence}: {shown}" if shown else sentence, hint=again, paths=(folder,)
    )


def count_pictures(folder: Path, for_s: float = COUNT_FOR_S) -> tuple[int, bool]:
    """Return how many pictures a folder holds by their names, at any depth, as far as that is known after a short time.

    Returns:
        The number, and whether it is of all of them. Links to folders are not followed.
    """
    from engine.images import SUFFIX

    until, n, waiting = time.monotonic() + for_s, 0, [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if SUFFIX.search(entry.name):
                        n += 1
                    elif not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    if time.monotonic() > until:
                        return n, False
        except OSError:  # a folder that may not be read
            continue
        if time.monotonic() > until and waiting:
            return n, False
    return n, True


def _run(found: Sequence[Path], here: Here) -> Intent:
    run = found[0]
    if here.project is not None and _is_same(run.parent.parent, here.project):
        return Intent(
            kind="use-run",
            sentence=tr("Look through the backbone of run {number}", number=run.name.lstrip("0")),
            hint=tr("All places then show what this run has learnt."),
            paths=(run,),
        )
    return _import(next((run / name for name in MODEL_FILES if (run / name).is_file()), None), run.name)


def _model(found: Sequence[Path], here: Here) -> Intent:
    del here
    return _import(next(found[0] / name for name in MODEL_FILES if (found[0] / name).is_file()), found[0].name)


def _weights(found: Sequence[Path], here: Here) -> Intent:
    del here
    return _import(found[0], found[0].name)


def _import(file: Path | None, name: str) -> Intent:
    if file is None:
        return _refusal(
            tr("The run {name} has no backbone yet: it has not ended.", name=name),
            tr("Drop the file model.safetensors of one of its checkpoints."),
        )
    return Intent(
        kind="import-weights",
        sentence=tr("Import the weights {name}", name=name),
        hint=tr("They are checked first, and converted; the file is left as it is."),
        paths=(file,),
    )


def _pictures(found: Sequence[Path], here: Here) -> Intent:
    """Return what pictures mean: the folder they are in, pictures of the project to show, or a query."""
    if here.project is None or len(found) > MOST_ASKED:
        return _folder_around(found, here)
    own = [path for path in found if here.pictures_folder is not None and path.is_relative_to(here.pictures_folder)]
    if len(own) == len(found) and here.place != "find":
        shown = tr("this picture") if len(own) == 1 else tr("these {n} pictures", n=len(own))
        return Intent(
            kind="show-pictures",
            sentence=tr("Select {pictures}", pictures=shown),
            hint=tr("They are in the folder that is open."),
            paths=tuple(own),
        )
    sentence = (
        tr("Look for pictures like this one")
        if len(found) == 1
        else tr("Look for pictures like these {n} together", n=len(found))
    )
    return Intent(kind="find-like", sentence=sentence, hint=tr("In the pictures of this project."), paths=tuple(found))


def _folder_around(found: Sequence[Path], here: Here) -> Intent:
    """Return that the folder which all these pictures are in is opened, where there is one."""
    folders = {path.parent for path in found}
    if len(folders) > 1:
        if here.project is None:
            return _refusal(tr("These pictures are in several folders."), tr("Drop the folder that holds all of them."))
        return _refusal(
            tr("At most {n} pictures can be looked for together.", n=MOST_ASKED), tr("Drop fewer, or a folder.")
        )
    folder = folders.pop()
    if here.pictures_folder is not None and _is_same(folder, here.pictures_folder):
        return _folder([folder], here)
    whose = tr("this picture is in") if len(found) == 1 else tr("these pictures are in")
    return Intent(
        kind="open-folder",
        sentence=tr("Open the folder {name}, which {whose}", name=folder.name or str(folder), whose=whose),
        hint=tr("A project is a whole folder. The pictures stay where they are and are never changed."),
        paths=(folder,),
    )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one == other


_MEANINGS: dict[What, Callable[[Sequence[Path], Here], Intent]] = {
    "pictures": _pictures,
    "weights": _weights,
    "folder": _folder,
    "project": _project,
    "run": _run,
    "model": _model,
}
_NOUNS: dict[What, tuple[str, str]] = {
    "pictures": ("picture", "pictures"),
    "weights": ("file of weights", "files of weights"),
    "folder": ("folder", "folders"),
    "project": ("project", "projects"),
    "run": ("training run", "training runs"),
    "model": ("folder of a model", "folders of models"),
}
