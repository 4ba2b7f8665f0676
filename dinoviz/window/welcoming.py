"""What the page of welcome asks of the window: to open, to pin, to forget, to find again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dinoviz.preferences import Memory
from dinoviz.revealing import reveal
from dinoviz.views.welcome.view import WelcomeView
from dinoviz.window.opening import Opening


def serve_welcome(
    view: WelcomeView, opening: Opening, memory: Callable[[], Memory], remember: Callable[[Memory], object]
) -> Callable[[], None]:
    """Do what the page asks for.

    Args:
        view: the page.
        opening: opens.
        memory: returns what is remembered now.
        remember: keeps something else.

    Returns:
        What shows the projects that are remembered now.
    """

    def show() -> None:
        view.set_recent(memory().recent)

    def keep(changed: Memory) -> None:
        remember(changed)
        show()

    def move(folder: str, to: Path) -> None:
        """Take over how a project was left to where it is now, and open it there."""
        rows = tuple(replace(row, folder=str(to)) if row.folder == folder else row for row in memory().recent)
        keep(replace(memory(), recent=rows))
        opening.open(to)

    view.open_wanted.connect(opening.open)
    view.pin_wanted.connect(lambda folder, is_pinned: keep(memory().pinned(folder, is_pinned=is_pinned)))
    view.remove_wanted.connect(lambda folder: keep(memory().without(folder)))
    view.moved.connect(move)
    view.reveal_wanted.connect(reveal)
    return show
