"""What every view works with: the session, the engine's processes, thumbnails, work in the background, actions."""

from dataclasses import dataclass

from dinoviz.actions import Actions
from dinoviz.background import Background
from dinoviz.engine_process import Jobs, Service
from dinoviz.session import Session
from dinoviz.thumbnails import Thumbnails


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The one argument of a view."""

    session: Session
    jobs: Jobs
    vision: Service
    search: Service
    thumbnails: Thumbnails
    background: Background
    actions: Actions
