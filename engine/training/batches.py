"""From a step's number to its crops: which pictures, in which order, and what was drawn for each.

A batch is a pure function of (seed, step): the order of an epoch is drawn from (seed, epoch), every crop
from (seed, epoch, picture, view). So any number of loader processes gives the same batches, and a run
resumes at any step without a state of the loader. A file that broke since the scan is replaced by the
next picture of the list, always the same one, and named.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from engine.errors import BadInput, UnreadablePicture, UserError
from engine.protocol import Noticed, Tell
from engine.recipes import Plan
from engine.training.crops import decode_side, draw_views, render_views
from engine.training.pictures import Pixels, begin_worker, worker_context

PREFETCH = 4  # batches ahead of the network, for each process
MOST_REPLACEMENTS = 1000  # pictures tried in place of a broken one: a drive that went away is said soon
MOST_DEATHS = 3  # in a row, of the processes that load


@dataclass(frozen=True, slots=True)
class Batch:
    """The crops of one step: uint8, (views, pictures, side, side, 3), and why pictures were replaced, by path."""

    step: int
    globals_VBYXC: Tensor
    locals_VBYXC: Tensor
    replaced: dict[str, str]

    def pin_memory(self) -> "Batch":
        """Called by the loader, so that copies to a GPU need not wait."""
        return Batch(self.step, self.globals_VBYXC.pin_memory(), self.locals_VBYXC.pin_memory(), self.replaced)

    def parts(self, n: int) -> Iterator[list[Tensor]]:
        """Yield ``n`` equal parts, each as the list of its views, global ones first."""
        global_, local = self.globals_VBYXC.chunk(n, dim=1), self.locals_VBYXC.chunk(n, dim=1)
        for i in range(n):
            yield [*global_[i], *local[i]]


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, n_pictures: int) -> NDArray[np.int64]:
    """Return the order of the pictures in an epoch."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(n_pictures)


class Batches(Dataset[Batch]):
    """The batches of one process, by step."""

    def __init__(self, plan: Plan, pixels: Pixels, *, rank: int = 0) -> None:
        self._plan = plan
        self.pixels = pixels
        self._rank = rank

    def __getitem__(self, step: int) -> Batch:
        plan = self._plan
        epoch, place = divmod(step, plan.steps_per_epoch)
        order = epoch_order(plan.run.seed, epoch, plan.pictures)
        indices = order[place * plan.run.batch : (place + 1) * plan.run.batch]
        mine = indices.reshape(plan.processes, -1)[self._rank]
        replaced: dict[str, str] = {}
        crops = [self._crops(int(index), epoch, replaced) for index in mine]
        globals_VBYXC, locals_VBYXC = (
            torch.from_numpy(np.stack(of_each, axis=1)) for of_each in zip(*crops, strict=True)
        )
        return Batch(step, globals_VBYXC, locals_VBYXC, replaced)

    def _crops(self, index: int, epoch: int, replaced: dict[str, str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        for candidate in ((index + i) % len(self.pixels) for i in range(min(len(self.pixels), MOST_REPLACEMENTS))):
            rows, cols = self.pixels.pictures.size(candidate)
            views = draw_views(self._plan.crops, rows, cols, seed=self._plan.run.seed, epoch=epoch, sample=index)
            at_least = decode_side(views) if self._plan.crops.renderer == "fast" else None
            try:
                picture = self.pixels.read(candidate, at_least=at_least)
            except UnreadablePicture as problem:
                replaced[self.pixels.pictures.path(candidate)] = problem.message
                continue
            return render_views(picture, views, self._plan.crops)
        raise gone()


def load(batches: Batches, steps: range, *, workers: int, pin: bool, tell: Tell) -> Iterator[Batch]:
    """Yield the batches of some steps in order, made ahead by ``workers`` processes.

    Processes that were killed are started again where they were.

    Raises:
        BadInput: no picture can be read any more.
        UserError: the processes end again and again.
    """
    deaths = 0
    while steps:
        try:
            for batch in _made_ahead(batches, steps, workers, pin):
                steps, deaths = steps[1:], 0
                yield batch
        except BadInput:  # comes with the traceback of the process in its text
            raise gone() from None
        except (RuntimeError, ConnectionError, EOFError) as problem:
            # A process that is gone is met as such, or while its batch is being taken over.
            if isinstance(problem, RuntimeError) and "DataLoader worker" not in str(problem):
                raise
            deaths += 1
            if deaths == MOST_DEATHS:
                raise UserError(
                    "The processes that load pictures end again and again.",
                    "Little memory or a small /dev/shm are the usual reasons: try --workers 0.",
                ) from problem
            tell(Noticed(level="warning", text="A process that loads pictures ended; it is started again."))


def _made_ahead(batches: Batches, steps: range, workers: int, pin: bool) -> Iterator[Batch]:
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=steps,  # type: ignore[arg-type] - any sized iterable of indices
        num_workers=workers,
        collate_fn=_as_it_is,
        prefetch_factor=PREFETCH if workers else None,
        multiprocessing_context=worker_context(workers),
        worker_init_fn=begin_worker,
        pin_memory=pin,
    )
    made = iter(loader)
    if workers and hasattr(signal, "SIGCHLD"):
        # The loader's handler would raise wherever this process is just then; it finds a death itself when it waits.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    yield from made


def gone() -> BadInput:
    """Return the error for pictures that have all gone."""
    return BadInput("None of the pictures can be read any more.", "Scan the folder again: engine scan FOLDER.")


def _as_it_is(batch: Batch) -> Batch:
    return batch
