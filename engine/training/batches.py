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

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from engine.errors import BadInput, UnreadablePicture
from engine.recipes import Plan
from engine.training.crops import decode_side, draw_views, render_views
from engine.training.pictures import Pixels, worker_context

PREFETCH = 4  # batches ahead of the network, for each process


@dataclass(frozen=True, slots=True)
class Batch:
    """The crops of one step: uint8, (views, pictures, side, side, 3), and, by id, why pictures were replaced."""

    step: int
    large_VBYXC: Tensor
    small_VBYXC: Tensor
    replaced: dict[int, str]

    def pin_memory(self) -> "Batch":
        """Called by the loader, so that copies to a GPU need not wait."""
        return Batch(self.step, self.large_VBYXC.pin_memory(), self.small_VBYXC.pin_memory(), self.replaced)

    def parts(self, n: int) -> Iterator[list[Tensor]]:
        """Yield ``n`` equal parts, each as the list of its views, large ones first."""
        large = self.large_VBYXC.chunk(n, dim=1)
        small = self.small_VBYXC.chunk(n, dim=1)
        for i in range(n):
            yield [*large[i], *small[i]]


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
        replaced: dict[int, str] = {}
        crops = [self._crops(int(index), epoch, replaced) for index in mine]
        large = torch.from_numpy(np.stack([large for large, _ in crops], axis=1))
        small = torch.from_numpy(np.stack([small for _, small in crops], axis=1))
        return Batch(step, large, small, replaced)

    def _crops(self, index: int, epoch: int, replaced: dict[int, str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        for candidate in ((index + i) % len(self.pixels) for i in range(len(self.pixels))):
            rows, cols = self.pixels.pictures.size(candidate)
            views = draw_views(self._plan.crops, rows, cols, seed=self._plan.run.seed, epoch=epoch, sample=index)
            at_least = decode_side(views) if self._plan.crops.renderer == "fast" else None
            try:
                picture = self.pixels.read(candidate, at_least=at_least)
            except UnreadablePicture as problem:
                replaced[self.pixels.pictures.id(candidate)] = problem.message
                continue
            return render_views(picture, views, self._plan.crops)
        raise BadInput("None of the pictures can be read any more.", "Scan the folder again: engine scan FOLDER.")


def load(batches: Batches, steps: range, *, workers: int, pin: bool) -> Iterator[Batch]:
    """Yield the batches of some steps in order, made ahead by ``workers`` processes."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=steps,  # type: ignore[arg-type] - any sized iterable of indices
        num_workers=workers,
        collate_fn=_as_it_is,
        prefetch_factor=PREFETCH if workers else None,
        multiprocessing_context=worker_context(workers),
        worker_init_fn=_begin_worker,
        pin_memory=pin,
    )
    yield from loader


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _begin_worker(_: int) -> None:
    """Leave Ctrl-C to the process that trains, and one core to each loader."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
