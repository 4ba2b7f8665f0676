"""From a step's number to its crops: which pictures, in which order, and what was drawn for each.

A batch is a pure function of (seed, step): the order of an epoch is drawn from (seed, epoch), every crop
from (seed, epoch, picture, view). So any number of loader processes gives the same batches, and a run
resumes at any step without a state of the loader. A file that broke since the scan is replaced by the
next picture of the list, always the same one, and named.
"""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from engine.catalogue import VitShape
from engine.errors import BadInput, UnreadablePicture, UserError
from engine.protocol import Noticed, Tell
from engine.recipes import Plan
from engine.settings import CropSettings
from engine.training.crops import GLOBALS, decode_side, draw_views, render_views
from engine.training.masking import Masking, batch_masks, masked_patches
from engine.training.pictures import Pixels, begin_worker, worker_context

PREFETCH = 4  # batches ahead of the network, for each process
MOST_REPLACEMENTS = 1000  # pictures tried in place of a broken one: a drive that went away is said soon
MOST_DEATHS = 3  # in a row, of the processes that load


@dataclass(frozen=True, slots=True)
class Batch:
    """The crops of one step: uint8, (views, pictures, side, side, 3), and why pictures were replaced, by path."""

    step: int
    globals_GBYXC: Tensor
    locals_VBYXC: Tensor
    replaced: dict[str, str]
    masks_GBP: Tensor | None = None
    labels_B: Tensor | None = None

    def pin_memory(self) -> "Batch":
        """Called by the loader, so that copies to a GPU need not wait."""
        return replace(self, globals_GBYXC=self.globals_GBYXC.pin_memory(), locals_VBYXC=self.locals_VBYXC.pin_memory())

    def parts(self, n: int) -> Iterator["CroppedPart"]:
        """Yield ``n`` equal parts."""
        global_, local = self.globals_GBYXC.chunk(n, dim=1), self.locals_VBYXC.chunk(n, dim=1)
        masks = self.masks_GBP.chunk(n, dim=1) if self.masks_GBP is not None else [None] * n
        labels = self.labels_B.chunk(n) if self.labels_B is not None else [None] * n
        for i in range(n):
            part_GBP = masks[i]
            masked_M, weights_M = masked_patches(part_GBP) if part_GBP is not None else (None, None)
            yield CroppedPart([*global_[i], *local[i]], part_GBP, masked_M, weights_M, labels[i])


@dataclass(frozen=True, slots=True)
class CroppedPart:
    """A part of a batch as `objectives.Part`, but with the views as they were cropped: uint8, (B, Y, X, 3)."""

    views_VBYXC: list[Tensor]
    masks_GBP: Tensor | None
    masked_M: Tensor | None
    weights_M: Tensor | None
    labels_B: Tensor | None


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
        settings = plan.crops_at(epoch)
        shown, crops = zip(*[self._crops(int(index), epoch, settings, replaced) for index in mine], strict=True)
        globals_GBYXC, locals_VBYXC = (
            torch.from_numpy(np.stack(of_each, axis=1)) for of_each in zip(*crops, strict=True)
        )
        masks_GBP = self._masks(step, settings)
        return Batch(step, globals_GBYXC, locals_VBYXC, replaced, masks_GBP, self._labels(shown))

    def _labels(self, shown: Sequence[int]) -> Tensor | None:
        """Return the classes of the pictures that are shown; None where the run learns no labels."""
        labels_N = self.pixels.pictures.labels_N
        return None if labels_N is None else torch.from_numpy(labels_N[list(shown)].astype(np.int64))

    def _masks(self, step: int, crops: CropSettings) -> Tensor | None:
        """Return which patches of which large crops are hidden, (G, B, P); None where nothing is."""
        plan = self._plan
        if "ibot" not in plan.heeded or not isinstance(plan.shape, VitShape):
            return None
        side = crops.global_side // plan.shape.patch
        ratios = (plan.ibot.mask_least, plan.ibot.mask_most)
        masking = Masking(rows=side, cols=side, share=plan.ibot.mask_share, ratios=ratios)
        each = plan.run.batch // plan.processes
        mine = slice(self._rank * each, (self._rank + 1) * each)
        masks_GBP = batch_masks(masking, GLOBALS, plan.run.batch, seed=plan.run.seed, step=step, mine=mine)
        return torch.from_numpy(masks_GBP)

    def _crops(
        self, index: int, epoch: int, settings: CropSettings, replaced: dict[str, str]
    ) -> tuple[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Return a picture's place in the list, or that of the one shown for it, and its large and small crops."""
        for candidate in ((index + i) % len(self.pixels) for i in range(min(len(self.pixels), MOST_REPLACEMENTS))):
            rows, cols = self.pixels.pictures.size(candidate)
            views = draw_views(settings, rows, cols, seed=self._plan.run.seed, epoch=epoch, sample=index)
            views = views[: self._plan.large_crops] + views[GLOBALS:]
            at_least = decode_side(views) if settings.renderer == "fast" else None
            try:
                picture = self.pixels.read(candidate, at_least=at_least)
            except UnreadablePicture as problem:
                replaced[self.pixels.pictures.path(candidate)] = problem.message
                continue
            return candidate, render_views(picture, views, settings)
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
