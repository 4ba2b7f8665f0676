"""Every command of finding and taking away on one folder, as a person types them, with the time of each.

Run ``python tests/bench/bench_tour.py PHOTOS OUT``: makes a project and all exports in OUT, which must not be there
yet, and prints a table for README. The first photo of PHOTOS is the one that is looked for.
"""

import shlex
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.images import find_pictures

SET, PATCHES = "1", "2"
LOOKED_AT = 20  # photos of which attention and masks are written


def main() -> int:
    photos, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True)
    project = out / "photos.dinoviz"
    found = [photos / picture.path for picture in find_pictures(photos).pictures]
    some = " ".join(shlex.quote(str(path)) for path in found[:: len(found) // LOOKED_AT][:LOOKED_AT])
    first = shlex.quote(str(found[0]))
    seen = "--model bundled --side 144"
    tour = [
        f"scan {photos} --project {project}",
        f"embed {project} --model bundled",
        f"embed {project} --model bundled --patches",
        f"index {project} --set {SET}",
        f"index {project} --set {PATCHES}",
        f"search {project} --set {SET} --image {first}",
        f"search {project} --set {PATCHES} --image {first} --box 60,60,80,80 --why {out}/why",
        f"duplicates {project} --set {SET} --write {out}/duplicates",
        f"oddities {project} --set {SET} --write {out}/oddities",
        *(f"map {project} --set {SET} --method {method}" for method in ("pca", "tsne", "umap")),
        f"map {project} --set {SET} --classes",
        f"clusters {project} --set {SET}",
        f"look patches {some} {seen} --together --out {out}/patches",
        f"look matches {first} {shlex.quote(str(found[1]))} {seen} --out {out}/matches",
        *(
            f"export embeddings {project} --set {SET} --format {form} --out {out}/embeddings-{form}"
            for form in ("npy", "npz", "parquet", "csv", "projector", "atlas", "fiftyone")
        ),
        f"export patches {project} --set {PATCHES} --format npz --out {out}/patches-npz",
        f"export patches {project} --set {PATCHES} --format zarr --out {out}/patches-zarr",
        *(
            f"export map {project} --set {SET} --format {form} --out {out}/map.{form}"
            for form in ("csv", "parquet", "png", "svg")
        ),
        *(
            f"export backbone --model bundled --format {form} --out {out}/backbone-{form}"
            for form in ("safetensors", "onnx")
        ),
        f"export masks {project} {seen} --format coco --out {out}/masks-all",
        *(
            f"export masks {some} {seen} --format {form} --out {out}/masks-{form}"
            for form in ("png", "indexed", "labels16", "coco", "coco-polygons", "labelme", "yolo", "npz")
        ),
        *(
            f"export attention {some} {seen} --format {form} --out {out}/attention-{form}"
            for form in ("npz", "overlay")
        ),
    ]
    failed = 0
    for line in tour:
        begun = time.monotonic()
        command = [sys.executable, "-P", "-m", "engine", *shlex.split(line), "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        failed += done.returncode not in (0, 4)
        short = line.replace(some, "…").replace(str(out) + "/", "").replace(str(photos), "photos/")
        print(f"| `engine {short[:90]}` | {time.monotonic() - begun:.1f} s | exit {done.returncode} |", flush=True)
        if done.returncode not in (0, 4):
            print(done.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
