"""Embedding, pictures per second, beside the network alone and beside the plain way.

Run ``python tests/bench/bench_embed.py [folder of photos] [model size/patch] [pictures]``. In turns: the blocks that
``engine embed`` makes; the same network on batches that are ready (the floor: decoding hidden altogether); and the
plain way, Pillow and a DataLoader with float32. Random weights: the arithmetic is that of trained ones.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.catalogue import IMAGENET_MEAN, IMAGENET_STD, name_of, shape_of
from engine.images import find_pictures, open_rgb
from engine.machine import find_device, make_cpu_fast, usable_cores
from engine.models import build_backbone, feature_width, patch_of
from engine.models.weights import Backbone
from engine.seeing.embed import TOKENS_OF_CPU, Embedder, block_length
from engine.seeing.views import shown
from engine.sets import SetPlan

SIDE = 224
ROUNDS = 5
BATCH = 32  # of the plain way


class Plain(Dataset[torch.Tensor]):
    """Resize 256, central crop 224, normalise, as the papers' scripts do."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        picture = Image.open(self.paths[index]).convert("RGB")
        share = 256 / min(picture.size)
        picture = picture.resize([round(n * share) for n in picture.size], Image.Resampling.BICUBIC)
        left, top = (picture.width - SIDE) // 2, (picture.height - SIDE) // 2
        pixels = np.asarray(picture.crop((left, top, left + SIDE, top + SIDE)), np.float32) / 255
        normal = (pixels - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
        return torch.from_numpy(normal.transpose(2, 0, 1))


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "resources" / "photos"
    shape = shape_of(sys.argv[2] if len(sys.argv) > 2 else "vit-small/16")
    n = int(sys.argv[3]) if len(sys.argv) > 3 else 192
    found = [root / picture.path for picture in find_pictures(root).pictures]
    paths = [found[i % len(found)] for i in range(n)]
    backbone = Backbone(
        model=build_backbone(shape).eval(), shape=shape, mean=IMAGENET_MEAN, std=IMAGENET_STD, source="random",
        sha256="", layout="native", recipe=None, about={}, notices=(),
    )  # fmt: skip
    width = feature_width(shape)
    machine = find_device()
    plan = SetPlan(
        model="random", model_sha256="", architecture=name_of(shape), kind="cls", view="crop", side=SIDE,
        patch=patch_of(shape), width=width, dimensions=width, has_patches=False,
        precision="bf16" if machine.has_bf16 else "fp32",
    )  # fmt: skip
    embedder = Embedder(backbone, plan, torch.device(machine.device))
    length = block_length(SIDE)
    blocks = [paths[first : first + length] for first in range(0, n, length)]
    per_batch = TOKENS_OF_CPU * patch_of(shape) ** 2 // SIDE**2
    ready = torch.from_numpy(np.stack([shown(open_rgb(path), "crop", SIDE, 16) for path in paths[:per_batch]]))

    def ours() -> None:
        for _ in embedder.blocks(blocks, usable_cores()):
            pass

    def network_alone() -> None:
        for first in range(0, n, per_batch):
            embedder.see(ready[: min(per_batch, n - first)])

    @torch.inference_mode()
    def plain() -> None:
        for batch in DataLoader(Plain(paths), batch_size=BATCH, num_workers=2):
            backbone.model(batch)

    rates: dict[str, list[float]] = {"engine embed": [], "its network alone": [], "Pillow, DataLoader, float32": []}
    ways: dict[str, tuple[Callable[[], None], bool]] = {
        "engine embed": (ours, True),
        "its network alone": (network_alone, True),
        "Pillow, DataLoader, float32": (plain, False),
    }
    for _ in range(ROUNDS):
        for name, (way, is_ours) in ways.items():
            torch.set_float32_matmul_precision("highest")
            if is_ours:
                make_cpu_fast()
            begun = time.perf_counter()
            way()
            rates[name].append(n / (time.perf_counter() - begun))
    print(f"{n} pictures at {SIDE} px, {name_of(shape)}, {plan.precision}, medians of {ROUNDS} rounds")
    medians = {name: statistics.median(rate) for name, rate in rates.items()}
    for name, rate in medians.items():
        print(f"{name:<30}{rate:8.1f} pictures/s  {rate / medians['Pillow, DataLoader, float32']:5.2f} x plain")
    print(f"engine embed reaches {medians['engine embed'] / medians['its network alone']:.0%} of its network alone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
