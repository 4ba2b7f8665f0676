"""``engine serve``: a resident service that answers questions over its standard streams, a JSON object a line.

A service shares the cores with whatever else runs, a training most of all. Threads that spin while they wait for each
other then hold each other up: beside six busy processes a core, a pass took 7.4 s, and 1.9 s with threads that sleep.
"""

import argparse
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from engine.channel import Channel
from engine.commands import Outcome, add_verb, new_parser
from engine.commands.arguments import add_device, add_model, add_set
from engine.errors import BadInput, Stopped, UserError
from engine.machine import wait_without_spinning
from engine.project import Project
from engine.protocol import Failed, Finished, Tell
from engine.questions import SEARCH, VISION
from engine.serve.answers import AnswerFiles
from engine.serve.loop import end_soon, serve

ABOUT = """Each line of standard input is a question, each line of standard output an answer:
  {"kind": "ask", "id": 1, "question": {"kind": "status"}}
  {"kind": "ask", "id": 2, "question": {"kind": "attention", "picture": "horse.jpg", "layer": -1, "query": [10, 12]}}
  {"kind": "stop"}
Arrays of answers are .npy files that the answer names; the last 256 are kept. Of the questions that wait, only the
newest of each kind is answered. The service ends when its standard input is closed. The questions and their fields
stand in engine/questions.py."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command and of its services."""
    command = new_parser(
        "serve",
        "Keep what is slow to make, and answer questions until standard input closes.",
        ["engine serve vision --model photos.dinoviz/runs/0001", "engine serve search --project photos.dinoviz"],
    )
    services = command.add_subparsers(metavar="vision|search", required=True)
    vision = add_verb(
        services,
        "vision",
        brief="attention, masks, colours and likeness of patches in pictures",
        about="Answer questions about pictures: attention, masks, colours, likeness.\n" + ABOUT,
        examples=[
            "engine serve vision --model bundled",
            "engine serve vision --model photos.dinoviz/runs/0001 --project photos.dinoviz --device cpu",
        ],
    )
    add_model(vision, has_role=False)
    _add_common(vision)
    add_device(vision)
    vision.set_defaults(run=run_vision)
    search = add_verb(
        services,
        "search",
        brief="what is like a picture, in the index of a project",
        about="Answer questions about the pictures of a project: what is like this one.\n" + ABOUT,
        examples=[
            "engine serve search --project photos.dinoviz",
            "engine serve search --project photos.dinoviz --cache /tmp/answers",
        ],
    )
    _add_common(search)
    add_set(search)
    search.set_defaults(run=run_search)
    return command


def _add_common(service: argparse.ArgumentParser) -> None:
    service.add_argument("--project", type=Path, help="project; paths of pictures are then relative to its pictures")
    service.add_argument("--cache", type=Path, help="folder for the arrays of answers (default: the project's cache)")


def run_vision(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Answer questions about pictures until Stop."""
    wait_without_spinning()
    with _resident(arguments, VISION) as (channel, files):
        from engine.machine import find_device  # only now, as torch is slow to load, and questions come already
        from engine.serve.vision import Vision

        folder = _pictures_folder(arguments.project)
        device = find_device(arguments.device).device
        with files:
            vision = Vision(arguments.model, device, files, pictures_folder=folder, is_outdated=channel.is_outdated)
            serve(vision, channel)
    return Outcome({"stopped": True}, "")


def run_search(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Answer questions about a project until Stop."""
    wait_without_spinning()
    with _resident(arguments, SEARCH) as (channel, _):
        from engine.serve.search import Search  # only now, as faiss is slow to load

        if arguments.project is None:
            raise BadInput("A search needs a project.", "Name it: engine serve search --project photos.dinoviz.")
        with Project.at(arguments.project) as project:
            serve(Search(project, arguments.set), channel)
    return Outcome({"stopped": True}, "")


def _pictures_folder(project: Path | None) -> Path | None:
    if project is None:
        return None
    with Project.at(project) as opened:
        return opened.pictures_folder


@contextmanager
def _resident(arguments: argparse.Namespace, kinds: Mapping[str, type]) -> Iterator[tuple[Channel, AnswerFiles]]:
    """Take the standard streams for questions, and say the last word on them.

    Raises:
        Stopped: a signal asked to end.
        UserError: as the body of the context.
    """
    files = AnswerFiles(arguments.cache or (arguments.project and arguments.project / "cache" / "answers"))
    channel = Channel.of_this_process(kinds, on_orphaned=lambda: end_soon(files.remove))
    heard: list[int] = []

    def end(number: int) -> None:
        heard.append(number)
        channel.end()

    with _signals(end):
        try:
            yield channel, files
        except UserError as problem:
            channel.send(Failed(message=problem.message, hint=problem.hint, exit_code=problem.exit_code))
            raise
    if heard:
        raise Stopped(heard[0])
    channel.send(Finished())


@contextmanager
def _signals(heard: Callable[[int], object]) -> Iterator[None]:
    """Call ``heard`` for Ctrl-C and the system's request to end."""

    def handle(number: int, _frame: FrameType | None) -> None:
        heard(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
