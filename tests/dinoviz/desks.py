"""A desk as a view gets it, without a window around it: the real session, threads and processes."""

from collections.abc import Iterator
from contextlib import contextmanager

from PySide6.QtWidgets import QMainWindow

from dinoviz.actions import Actions
from dinoviz.background import Background
from dinoviz.desk import Desk
from dinoviz.engine_process import Jobs, Service
from dinoviz.session import Session
from dinoviz.thumbnails import Thumbnails

GRACE_MS = 3000


@contextmanager
def made_desk(qtbot) -> Iterator[Desk]:
    """A desk whose threads and processes end with the context."""
    window = QMainWindow()
    qtbot.addWidget(window)
    background = Background()
    session = Session(background)

    def vision_arguments():
        state = session.state
        return None if state.project is None else ["--model", state.model, "--project", str(state.project)]

    def search_arguments():
        state = session.state
        return None if state.set is None else ["--project", str(state.project), "--set", str(state.set)]

    desk = Desk(
        session=session,
        jobs=Jobs(session),
        vision=Service("vision", vision_arguments),
        search=Service("search", search_arguments),
        thumbnails=Thumbnails(session),
        background=background,
        actions=Actions(session, window),
    )
    try:
        yield desk
    finally:
        desk.jobs.close(GRACE_MS)
        desk.vision.close()
        desk.search.close()
        background.finish()
        desk.thumbnails.close()
