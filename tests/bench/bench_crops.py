"""Decoding and cropping, images per second on one core, against DINO's own pipeline in Pillow.

Run ``python tests/bench/bench_crops.py [folder of photos]``. The variants take turns, a round each; ratios are of
medians of processor time. Without a folder the pictures are made here: leaves of random place, size and colour that
cover each other, with noise of all scales, saved as JPEG of quality 90 and as heavy as photos are. The photos of a
folder are brought to the same sizes and quality.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from engine.images import open_rgb
from engine.seeing.views import normalise
from engine.settings import CropSettings
from engine.training.crops import decode_side, draw_views, render_views
from tests.makers import PUBLISHED_CROPS

# (cols, rows) and the strength of the noise, so that a picture has 80 kB and 0.6 MB.
SIZES = ((500, 375, 6.0), (1920, 1280, 4.0))
PICTURES = 8
ROUNDS = 11
EXACT = PUBLISHED_CROPS.model_copy(update={"renderer": "exact"})
FAST = EXACT.model_copy(update={"renderer": "fast"})


def leaves(cols: int, rows: int, noise: float, seed: int) -> Image.Image:
    """Return a dead-leaves picture, whose edges and spectrum are close to a photo's."""
    rng = np.random.default_rng(seed)
    canvas_YXC = np.zeros((rows, cols, 3), np.float32)
    for _ in range(400):
        centre = (int(rng.integers(cols)), int(rng.integers(rows)))
        radius = int(rows * min(0.5, 0.02 / rng.random() ** 0.6))
        cv2.circle(canvas_YXC, centre, radius, rng.uniform(20, 235, 3).tolist(), -1, cv2.LINE_AA)
    for octave in range(7):
        noise_YXC = rng.normal(0, noise, (rows >> octave, cols >> octave, 3)).astype(np.float32)
        canvas_YXC += cv2.resize(noise_YXC, (cols, rows), interpolation=cv2.INTER_CUBIC)
    return Image.fromarray(canvas_YXC.clip(0, 255).astype(np.uint8))


def write_pictures(folder: Path, photos: list[Path], cols: int, rows: int, noise: float) -> list[Path]:
    paths = [folder / f"{cols}_{i}.jpg" for i in range(PICTURES)]
    for i, path in enumerate(paths):
        if photos:
            picture = Image.open(photos[i * len(photos) // PICTURES]).convert("RGB").resize((cols, rows))
        else:
            picture = leaves(cols, rows, noise, seed=i)
        picture.save(path, quality=90)
    return paths


class Reference:
    """``DataAugmentationDINO`` of main_dino.py, with torchvision's PIL operations written out."""

    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)

    def __call__(self, path: Path) -> list[torch.Tensor]:
        image = Image.open(path).convert("RGB")
        crops = [self.crop(image, 224, (0.4, 1.0), 1.0, 0.0), self.crop(image, 224, (0.4, 1.0), 0.1, 0.2)]
        return crops + [self.crop(image, 96, (0.05, 0.4), 0.5, 0.0) for _ in range(8)]

    def crop(self, image, side, scale, blur, solarize):
        left, top, width, height = self.box(image.width, image.height, scale)
        image = image.crop((left, top, left + width, top + height)).resize((side, side), Image.Resampling.BICUBIC)
        if self.random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.random.random() < 0.8:
            image = self.jitter(image)
        if self.random.random() < 0.2:
            grey = image.convert("L")
            image = Image.merge("RGB", (grey, grey, grey))
        if self.random.random() < blur:
            image = image.filter(ImageFilter.GaussianBlur(self.random.uniform(0.1, 2.0)))
        if self.random.random() < solarize:
            image = ImageOps.solarize(image)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)
        return tensor.sub_(self.mean).div_(self.std)

    def box(self, cols, rows, scale):
        while True:
            area = cols * rows * self.random.uniform(*scale)
            aspect = math.exp(self.random.uniform(math.log(3 / 4), math.log(4 / 3)))
            width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if width <= cols and height <= rows:
                return self.random.randint(0, cols - width), self.random.randint(0, rows - height), width, height

    def jitter(self, image):
        operations = [
            lambda image: ImageEnhance.Brightness(image).enhance(self.random.uniform(0.6, 1.4)),
            lambda image: ImageEnhance.Contrast(image).enhance(self.random.uniform(0.6, 1.4)),
            lambda image: ImageEnhance.Color(image).enhance(self.random.uniform(0.8, 1.2)),
            self.hue,
        ]
        self.random.shuffle(operations)
        for operation in operations:
            image = operation(image)
        return image

    def hue(self, image):
        hue, saturation, value = image.convert("HSV").split()
        turned = np.array(hue) + np.uint8(int(self.random.uniform(-0.1, 0.1) * 255) % 256)
        return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


class Ours:
    """What a worker does: draw, decode no larger than needed, render to uint8."""

    def __init__(self, settings: CropSettings, *, scaled: bool = True, normalised: bool = False) -> None:
        self.settings, self.scaled, self.normalised, self.sample = settings, scaled, normalised, 0

    def __call__(self, path: Path):
        self.sample += 1
        cols, rows = (int(side) for side in path.parent.name.split("x"))
        views = draw_views(self.settings, rows, cols, seed=0, epoch=0, sample=self.sample)
        picture_YXC = open_rgb(path, at_least=decode_side(views) if self.scaled else None)
        crops = render_views(picture_YXC, views, self.settings)
        return [normalise(torch.from_numpy(crops_VYXC)) for crops_VYXC in crops] if self.normalised else crops


VARIANTS: dict[str, Callable[[Path], object]] = {
    "reference: Pillow, normalised": Reference(),
    "exact": Ours(EXACT, scaled=False),
    "fast, decoded in full": Ours(FAST, scaled=False),
    "fast": Ours(FAST),
    "fast, normalised on the CPU": Ours(FAST, normalised=True),
    "decoding alone, in full": open_rgb,
    "decoding alone, 1/4": lambda path: open_rgb(path, at_least=int(path.parent.name.split("x")[1]) // 4),
}


def seconds(variant: Callable[[Path], object], paths: list[Path]) -> float:
    start = time.process_time()
    for path in paths:
        variant(path)
    return (time.process_time() - start) / len(paths)


def report(paths: list[Path]) -> None:
    took: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(ROUNDS):
        for name, variant in VARIANTS.items():
            took[name].append(seconds(variant, paths))
    print(f"{paths[0].parent.name}, {statistics.mean(path.stat().st_size for path in paths) / 1000:.0f} kB each")
    reference = statistics.median(next(iter(took.values())))
    for name, times in took.items():
        median = statistics.median(times)
        print(f"  {name:32}{1 / median:8.1f} images/s{reference / median:8.2f} x")


def main() -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    photos = sorted(Path(sys.argv[1]).rglob("*.jpg")) if sys.argv[1:] else []
    with tempfile.TemporaryDirectory() as temporary:
        for cols, rows, noise in SIZES:
            folder = Path(temporary, f"{cols}x{rows}")
            folder.mkdir()
            report(write_pictures(folder, photos, cols, rows, noise))


if __name__ == "__main__":
    main()
