"""What was written for the person, said with what can be done about it: shown, or moved to the trash again."""

from pathlib import Path

from dinoviz.desk import Desk
from dinoviz.revealing import reveal
from dinoviz.words import tr

ABOUT = ".about.json"
"""Ending of the facts beside a file without room for them; as ``engine.exporting.targets.write_file``."""


def tell_written(desk: Desk, path: Path) -> None:
    """Say that a file or folder was written; nothing of it can be undone but by the trash."""
    path = path.absolute()
    doings = ((tr("Show"), lambda: reveal(path)), (tr("Move to trash"), lambda: _throw_away(desk, path)))
    desk.session.notify("info", tr("Written: {path}.", path=path), doings=doings)


def _throw_away(desk: Desk, path: Path) -> None:
    """Move what was written to the trash, with the facts beside it."""

    def work() -> None:
        from send2trash import send2trash

        there = [one for one in (path, path.with_name(path.name + ABOUT)) if one.exists()]
        send2trash([str(one) for one in there])

    def failed(problem: Exception) -> None:
        if not isinstance(problem, OSError):
            raise problem
        told = tr("'{name}' was not moved to the trash: {why}.", name=path.name, why=problem.strerror or problem)
        desk.session.notify("error", told, tr("It is in {folder}.", folder=path.parent))

    def done(_none: None) -> None:
        desk.session.notify("info", tr("'{name}' is in the trash.", name=path.name))

    desk.background.run("", work, done, failed)
