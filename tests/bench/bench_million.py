"""A project of a million pictures without pixels: every command that finds, its time and the memory it held.

Run ``python tests/bench/bench_million.py FOLDER [pictures] [command ...]``. The first run makes the project in FOLDER:
rows of the table, and vectors of 384 numbers in 1,000 clusters of uneven sizes, with 500 planted copies. Then the named
commands run, all of them where none is named, each in a process of its own. Not in FOLDER already: about 8 GB.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.project import Picture, Project
from engine.sets import Block, FeatureWriter, SetPlan

WIDTH = 384
CLUSTERS = 1_000
COPIES = 500
SPREAD = 1.2  # of the noise beside a cluster's centre of length 1, so that neighbours are not trivial
BLOCK = 50_000
LABELS = 50
COMMANDS = {
    "index": ["index"],
    "search": ["serve"],
    "duplicates": ["duplicates"],
    "oddities": ["oddities"],
    "pca": ["map", "--method", "pca"],
    "umap": ["map", "--method", "umap"],
    "tsne": ["map", "--method", "tsne"],
    "classes": ["map", "--classes"],
    "clusters": ["clusters"],
    "parquet": ["export", "embeddings", "--format", "parquet"],
    "csv": ["export", "map", "--format", "csv"],
}


def main() -> int:
    folder = Path(sys.argv[1])
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    project = folder / "million.dinoviz"
    if not project.exists():
        begun = time.monotonic()
        make(folder, project, n)
        print(f"made {n:,} rows in {time.monotonic() - begun:.0f} s", flush=True)
    for name in sys.argv[3:] or COMMANDS:
        report(name, folder, project)
    return 0


def make(folder: Path, project: Path, n: int) -> None:
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    sizes = random.dirichlet(np.full(CLUSTERS, 0.5))
    centres = random.standard_normal((CLUSTERS, WIDTH)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    plan = SetPlan(
        model="synthetic", model_sha256="0", architecture="vit-small/16", kind="cls", view="crop", side=224, patch=16,
        width=WIDTH, dimensions=WIDTH, has_patches=False, precision="fp32",
    )  # fmt: skip
    with Project.at(project, pictures=folder / "pictures") as opened:
        writer = FeatureWriter.at(opened.set_folder(plan), plan)
        for first in range(0, n, BLOCK):
            length = min(BLOCK, n - first)
            of = random.choice(CLUSTERS, length, p=sizes)
            noise = random.standard_normal((length, WIDTH)).astype(np.float32) * (SPREAD / WIDTH**0.5)
            vectors = centres[of] + noise
            if first == 0:
                vectors[-COPIES:] = vectors[:COPIES] + 0.001 * noise[:COPIES]
            opened.record(
                Picture(
                    path=f"{first + i:07d}.jpg",
                    size_bytes=1,
                    mtime_ns=1,
                    hash=f"{first + i:032x}",
                    rows=480,
                    cols=640,
                    label=f"class {of[i] % LABELS}",
                )
                for i in range(length)
            )
            copies = np.concatenate([vectors, vectors], axis=1).astype(np.float16)
            block = Block(vectors, copies, np.ones(length, np.bool_), np.zeros((length, 2), np.uint16))
            writer.append(range(first + 1, first + length + 1), [f"{first + i:032x}" for i in range(length)], block)


def report(name: str, folder: Path, project: Path) -> None:
    verb, *flags = COMMANDS[name]
    if name == "search":
        vectors = folder / "asked.npy"
        np.save(vectors, np.random.default_rng(1).standard_normal((1, WIDTH)).astype(np.float32))
        ask_service(project, vectors)
        return
    place = [flags[0], str(project), *flags[1:]] if verb == "export" else [str(project), *flags]
    if verb == "export":
        place += ["--out", str(folder / f"out-{name}"), "--overwrite"]
    begun, peak = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as said:
        command = [sys.executable, "-P", "-m", "engine", verb, *place, "--json"]
        process = subprocess.Popen(command, stdout=said, stderr=sys.stderr)
        while process.poll() is None:
            time.sleep(0.2)
            peak = max(peak, held(process.pid))
        said.seek(0)
        outcome = json.loads(said.read() or "{}")
    kept = {key: value for key, value in outcome.items() if isinstance(value, int | float | str) and key != "project"}
    print(
        f"{name}: exit {process.returncode}, {time.monotonic() - begun:.0f} s, {peak / 1e9:.1f} GB; {kept}", flush=True
    )


def held(pid: int) -> int:
    """Return the bytes that a process and its children hold for themselves: without the pages of mapped files."""
    total = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        memory = process.memory_info()
        total += memory.rss - memory.shared
    return total


def ask_service(project: Path, vectors: Path) -> None:
    from engine.questions import Similar
    from engine.serve.client import ServiceProcess

    begun = time.monotonic()
    with ServiceProcess(["search", "--project", str(project)]) as service:
        service.ask(Similar(vectors=vectors))
        first_s = time.monotonic() - begun
        times = []
        for number in range(1, 201):
            asked = time.perf_counter()
            service.ask(Similar(pictures=(number * 17,)))
            times.append(time.perf_counter() - asked)
    print(f"search: first answer {first_s:.1f} s, then {1000 * np.median(times):.1f} ms (median), "
          f"{1000 * np.max(times):.1f} ms (worst of 200) over the pipe", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
