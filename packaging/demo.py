"""The five-minute tour on the bundled photos: train, look before and after, find, map and colour them; then the window.

Run by ``python3 packaging/start.py demo``. Needs no network. Every step is the command a person would type; it is
printed before it runs. On a machine with a screen the window opens on the sample project at the end; without one it is
driven all the same, and what it shows is written as pictures.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from engine.images import open_rgb
from engine.seeing.drawing import Tile, sheet, within, write_png
from engine.terminal import run

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = ROOT / "resources" / "photos"
OUT = ROOT / "demo-output"
SHOWN = ("hat", "shoes", "dress", "outwear")  # folders whose first photo is looked at; upright ones fill the rows
EPOCHS = 120  # about a minute
SIDE = "128"  # px; the bundled backbone learnt from crops of 48
PART = ("shoes", "0.15,0.35,0.3,0.3")  # folder of the photo of which a part is looked for; left, top, width, height
KEPT = "0.6"  # share of the attention that a mask holds
TILE_PX = 240


def main() -> int:
    """Run the tour and return its exit code."""
    begun = time.monotonic()
    shown = [sorted((PHOTOS / folder).glob("*.jpg"))[0] for folder in SHOWN]
    project = OUT / "photos.dinoviz"
    known = {path.name for path in (project / "runs").glob("*")}
    scan = ["scan", str(PHOTOS), "--project", str(project)]
    train = ["train", str(PHOTOS), "--project", str(project), "--init", "bundled", f"--epochs={EPOCHS}"]
    for step in (scan, *_looks(shown, "bundled", "before"), [*train, f"--measure-epochs={EPOCHS // 3}"]):
        if code := _run(step):
            return code
    trained = next(path for path in sorted((project / "runs").glob("*")) if path.name not in known)
    for step in _looks(shown, str(trained), "after"):
        if code := _run(step):
            return code
    picture = _before_and_after(shown)
    for step in _finds(project, str(trained), shown):
        if code := _run(step):
            return code
    _say_what_there_is(trained, project, picture, time.monotonic() - begun)
    return _open_window()


def _open_window() -> int:
    """Open the window on the sample, or write what it would show."""
    if _has_screen():
        sys.stdout.write("\nThe window opens on the sample project; close it to end.\n")
        return subprocess.run([sys.executable, "-P", "-m", "dinoviz", "--sample"], check=False).returncode
    sys.stdout.write("\nThere is no screen: the window is drawn into pictures.\n")
    sys.stdout.flush()
    driving = [sys.executable, str(ROOT / "packaging" / "screens.py"), str(OUT / "window")]
    return subprocess.run(driving, cwd=ROOT, check=False).returncode


def _has_screen() -> bool:
    is_unix = sys.platform.startswith(("linux", "freebsd"))
    return not is_unix or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _finds(project: Path, model: str, shown: list[Path]) -> list[list[str]]:
    """Return the commands that find, map and colour the photos."""
    name, shares = PART
    photo = sorted((PHOTOS / name).glob("*.jpg"))[0]
    rows, cols = open_rgb(photo).shape[:2]
    sizes = (cols, rows, cols, rows)
    box = ",".join(f"{float(share) * size:.0f}" for share, size in zip(shares.split(","), sizes, strict=True))
    return [
        ["embed", str(project), "--model", model, "--patches", "--side", SIDE],
        ["index", str(project)],
        ["map", str(project), "--out", str(OUT)],
        ["search", str(project), "--image", str(photo), "--box", box, "-k", "9", "--out", str(OUT / "part-found.png")],
        [
            "look",
            "patches",
            *map(str, shown),
            "--model",
            model,
            "--side",
            SIDE,
            "--together",
            "--out",
            str(OUT / "patches"),
        ],
    ]


def _looks(shown: list[Path], model: str, when: str) -> list[list[str]]:
    """Return the commands that look at the shown photos."""
    photos = [*map(str, shown), "--model", model, "--side", SIDE]
    return [
        ["look", "attention", *photos, "--smooth", "--out", str(OUT / f"attention-{when}")],
        ["look", "masks", *photos, "--keep", KEPT, "--out", str(OUT / f"masks-{when}")],
    ]


def _run(arguments: list[str]) -> int:
    sys.stdout.write(f"\n$ engine {shlex.join(arguments)}\n")
    sys.stdout.flush()
    return run(arguments)


def _before_and_after(shown: list[Path]) -> Path:
    """Draw each photo, its attention and its mask before and after, as one picture."""
    tiles = []
    for path in shown:
        tiles += [
            Tile(within(open_rgb(path), TILE_PX), path.parent.name),
            Tile(_read(OUT / "attention-before" / f"{path.stem}-overlay.png"), "attention before"),
            Tile(_read(OUT / "attention-after" / f"{path.stem}-overlay.png"), "attention after"),
            Tile(_read(OUT / "masks-before" / f"{path.stem}-contours.png"), "mask before"),
            Tile(_read(OUT / "masks-after" / f"{path.stem}-contours.png"), "mask after"),
        ]
    target = OUT / "before-and-after.png"
    about = (
        f"before: the bundled backbone; after: {EPOCHS} epochs more on these photos; "
        f"a mask holds {float(KEPT):.0%} of the attention"
    )
    write_png(target, sheet(tiles, title="What the network attends to", subtitle=about, columns=5, side_px=TILE_PX))
    return target


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        picture.thumbnail((TILE_PX, TILE_PX))
        return np.asarray(picture.convert("RGB"))


def _say_what_there_is(trained: Path, project: Path, picture: Path, seconds: float) -> None:
    events = [json.loads(line) for line in (trained / "events.jsonl").read_text().splitlines()]
    losses = [event["values"]["loss"] for event in events if "loss" in event.get("values", {})]
    areas = json.loads((OUT / "masks-after" / "masks.json").read_text())["pictures"]
    lines = [
        f"\nDone in {seconds:.0f} s. Loss {losses[0]:.2f} at the start, {losses[-1]:.2f} at the end.",
        *(
            f"  {Path(row['picture']).parent.name}: the mask covers {row['masks']['mean']['share']:.0%}"
            for row in areas
        ),
        f"  before and after   {picture}",
        f"  attention, heads   {OUT / 'attention-after'}",
        f"  masks and areas    {OUT / 'masks-after'}",
        f"  all on a map       {OUT / 'map-tsne-thumbnails.png'}",
        f"  a part, found      {OUT / 'part-found.png'}",
        f"  patches, coloured  {OUT / 'patches' / 'patches-sheet.png'}",
        f"  the run            {trained}",
        f"  the project        {project}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
