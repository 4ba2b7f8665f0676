"""From pictures to features, a block at a time: decoded ahead by threads, seen in batches of one size.

Knows nothing of projects or files of features: pictures come as paths, blocks of features go out, in the same order.
Threads and not processes decode: decoders and resizing let go of the interpreter, nothing is copied between processes,
and every file was decoded before in a process that may die, by the scan.

Letters after a name are its axes:
    N pictures of a block · B pictures of a batch · C channels · Y X pixels · P patches · D width of a vector
    W width of the backbone · 3 colours, RGB
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import BadRecipe, BadWeights, UnreadablePicture
from engine.images import open_rgb
from engine.models.vit import Features, VisionTransformer
from engine.models.weights import Backbone
from engine.seeing.views import normalise, shown, side_to_decode
from engine.sets import Block, Kind, SetPlan

GEM_POWER = 4.0
GEM_LEAST = 1e-6
"""Power and least value of the generalised mean; eval_copy_detection.py."""
LAST_BLOCKS = 4
"""Blocks whose [CLS] a ``cls4`` vector joins; eval_linear.py."""
BLOCK_BYTES = 1 << 27
"""Pixels of a block of pictures: two are in memory, and a kill costs one."""
BLOCK_LEAST, BLOCK_MOST = 32, 256
TOKENS_OF_CPU, TOKENS_OF_GPU = 1 << 13, 1 << 16
"""Tokens of a batch: beyond them neither gets faster (CPU: 2 cores, 4 k to 64 k tokens within 3 %)."""


def dimensions(kind: Kind, width: int) -> int:
    """Return D, the length of a vector."""
    return width * {"cls": 1, "mean": 1, "cls+mean": 2, "cls4": LAST_BLOCKS, "gem": 2}[kind]


def block_length(side: int) -> int:
    """Return how many pictures make a block; it depends on nothing but the plan, so that a resumed set has the same."""
    return max(BLOCK_LEAST, min(BLOCK_MOST, BLOCK_BYTES // (4 * side * side)))


@dataclass(frozen=True, slots=True)
class Seen:
    """A block of features, and why pictures of it could not be read, by their place in it."""

    block: Block
    problems: dict[int, str]


class Embedder:
    """A backbone that makes the features of a plan."""

    def __init__(self, backbone: Backbone, plan: SetPlan, device: torch.device) -> None:
        """Bring the backbone to a device.

        Raises:
            BadRecipe: this backbone does not have the features that the plan asks for.
        """
        if plan.kind == "cls4" and not (
            isinstance(backbone.model, VisionTransformer) and backbone.model.shape.depth >= LAST_BLOCKS
        ):
            raise BadRecipe(
                f"The features 'cls4' join the last {LAST_BLOCKS} blocks, which this backbone does not have.",
                "Choose cls or cls+mean.",
            )
        self.plan = plan
        self._backbone = backbone
        self._device = device
        backbone.model.to(device).eval()

    def blocks(
        self,
        blocks: Iterable[Sequence[Path | UnreadablePicture]],
        workers: int,
        after_batch: Callable[[int], object] = lambda _: None,
    ) -> Iterator[Seen]:
        """Yield the features of blocks of pictures, in order; while one is seen the next one is decoded.

        Args:
            blocks: paths, or what is known to be wrong with a picture.
            workers: threads that decode.
            after_batch: is told of the pictures just seen; what it raises ends the work, and the block is dropped.

        Raises:
            BadWeights: a feature is not finite.
        """
        cv2.setNumThreads(0)
        with ThreadPoolExecutor(max(1, workers), "decode") as threads:
            waiting: deque[list[Future[NDArray[np.uint8] | UnreadablePicture]]] = deque()
            remaining = iter(blocks)
            try:
                while True:
                    for block in islice(remaining, 2 - len(waiting)):
                        waiting.append([threads.submit(self._decode, path) for path in block])
                    if not waiting:
                        return
                    yield self._see([future.result() for future in waiting.popleft()], after_batch)
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def _decode(self, path: Path | UnreadablePicture) -> NDArray[np.uint8] | UnreadablePicture:
        """Return the pixels to be shown, or why there are none."""
        if isinstance(path, UnreadablePicture):
            return path
        plan = self.plan
        try:
            picture_YX3 = open_rgb(path, at_least=side_to_decode(plan.view, plan.side))
        except UnreadablePicture as problem:
            return UnreadablePicture(problem.message)  # without its traceback, which keeps the pixels
        return shown(picture_YX3, plan.view, plan.side, plan.patch)

    def _see(
        self, pictures: Sequence[NDArray[np.uint8] | UnreadablePicture], after_batch: Callable[[int], object]
    ) -> Seen:
        plan, n = self.plan, len(pictures)
        vectors_ND = np.zeros((n, plan.dimensions), np.float32)
        copies_ND = np.zeros((n, 2 * plan.width), np.float16)
        grids_N2 = np.zeros((n, 2), np.uint16)
        patches: dict[int, NDArray[np.float16]] = {}
        for places, pictures_BYXC in self._batches(pictures):
            vectors_BD, copies_BD, features = self.see(pictures_BYXC)
            vectors_ND[places], copies_ND[places] = vectors_BD, copies_BD
            if plan.has_patches:
                grids_N2[places] = features.rows, features.cols
                patches |= zip(places, features.patches_BPD.half().cpu().numpy(), strict=True)
            after_batch(len(places))
        kept = [patches[place] for place in sorted(patches)]
        block = Block(
            vectors_ND=vectors_ND,
            copies_ND=copies_ND,
            is_seen_N=np.array([not isinstance(picture, UnreadablePicture) for picture in pictures], np.bool_),
            grids_N2=grids_N2,
            patches_PW=np.concatenate([np.zeros((0, plan.width), np.float16), *kept]) if plan.has_patches else None,
        )
        return Seen(
            block, {i: picture.message for i, picture in enumerate(pictures) if isinstance(picture, UnreadablePicture)}
        )

    def _batches(self, pictures: Sequence[NDArray[np.uint8] | UnreadablePicture]) -> Iterator[tuple[list[int], Tensor]]:
        """Yield pictures of one size together, with their places in the block."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for place, picture in enumerate(pictures):
            if not isinstance(picture, UnreadablePicture):
                by_size.setdefault(picture.shape, []).append(place)
        most_tokens = TOKENS_OF_CPU if self._device.type == "cpu" else TOKENS_OF_GPU
        for (rows, cols, _), places in by_size.items():
            length = max(1, most_tokens * self.plan.patch**2 // (rows * cols))
            for first in range(0, len(places), length):
                batch = places[first : first + length]
                yield batch, torch.from_numpy(np.stack([pictures[place] for place in batch]))

    @torch.inference_mode()
    def see(self, pictures_BYXC: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float16], Features]:
        """Return the vectors, the copy descriptors and all features of pictures of one size, uint8 RGB."""
        images_BCYX = normalise(pictures_BYXC.to(self._device), self._backbone.mean, self._backbone.std)
        model = self._backbone.model
        with self._precision():
            if self.plan.kind == "cls4":
                assert isinstance(model, VisionTransformer)
                layers = model.layers(images_BCYX, range(-LAST_BLOCKS, 0))
                features, parts = layers[-1], [layer.cls_BD for layer in layers]
            else:
                features = model(images_BCYX)
                parts = vector_parts(features, self.plan.kind)
        vectors_BD = torch.cat([part.float() for part in parts], dim=1)
        copies_BD = torch.cat([features.cls_BD.float(), gem(features.patches_BPD)], dim=1)
        if not bool(vectors_BD.isfinite().all()):
            raise BadWeights("The features of this backbone are not finite.", "Its weights are damaged; choose others.")
        return vectors_BD.cpu().numpy(), copies_BD.half().cpu().numpy(), features

    def _precision(self) -> AbstractContextManager[object]:
        if self.plan.precision == "bf16":
            return torch.autocast(self._device.type, torch.bfloat16)
        return nullcontext()


def vector_parts(features: Features, kind: Kind) -> list[Tensor]:
    """Return what a vector of a kind joins, each (B, W); ``cls4`` needs several layers and is not made here."""
    match kind:
        case "cls":
            return [features.cls_BD]
        case "mean":
            return [features.patches_BPD.float().mean(dim=1)]
        case "cls+mean":
            return [features.cls_BD, features.patches_BPD.float().mean(dim=1)]
        case "gem":
            return [features.cls_BD, gem(features.patches_BPD)]
    raise AssertionError(kind)


def gem(patches_BPD: Tensor) -> Tensor:
    """Return the generalised mean of patches, (B, D) float32: large values count for more.

    Source: DINO tab. 4; eval_copy_detection.py.
    """
    return patches_BPD.float().clamp(min=GEM_LEAST).pow(GEM_POWER).mean(dim=1).pow(1 / GEM_POWER)
