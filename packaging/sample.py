"""Make the sample project that comes with the program, ``resources/sample.zip``, from the bundled photos.

    python packaging/sample.py

Every step is the command a person would type. Run again when the photos, the bundled backbone or the format of a
project changes. The archive holds no picture: the window copies those of ``resources/photos`` beside the project.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch

from dinoviz.sample import ARCHIVE, MTIME_NS, PHOTOS, PROJECT
from engine.models.weights import read_backbone, write_backbone
from engine.project import Project

EPOCHS = 120  # about a minute, as in the demo
SIDE = "96"  # px, of the shorter side where patches are kept: twice what the backbone learnt at, and 4 MB
RUN = "runs/0001"
MAPS = (("--method", "tsne"), ("--method", "umap"), ("--method", "pca"), ("--classes",))
LEFT_OUT = ("*.png", ".lock", ".writer", "parts.faiss")
"""Drawings, as the window draws its own; traces of who wrote; an index that is made of the patches where it is absent.
"""
DATE = (2026, 1, 1, 0, 0, 0)  # of every entry of the archive, so that the same files give the same bytes
LARGEST_BYTES = 10_000_000  # in the repository


def main() -> int:
    """Make the archive and return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        copy_photos(root / PHOTOS.name)
        project = root / PROJECT
        _make(root, project)
        _forget_place(root, project)
        _pack(project)
    size = ARCHIVE.stat().st_size
    sys.stdout.write(f"{ARCHIVE.relative_to(Path.cwd())}: {size / 1e6:.1f} MB\n")
    return 0 if size <= LARGEST_BYTES else 1


def copy_photos(target: Path) -> None:
    """Copy the bundled photos, all last changed at one fixed moment."""
    shutil.copytree(PHOTOS, target)
    for path in target.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            os.utime(path, ns=(MTIME_NS, MTIME_NS))


def _make(root: Path, project: Path) -> None:
    """Scan, train, and make all that can be made from two sets of features; the bundled backbone's is used last."""
    name = project.name
    _engine(root, "scan", PHOTOS.name)
    with Project.at(project) as opened:
        opened.move_with_pictures()
    _engine(root, "train", name, "--init", "bundled", f"--epochs={EPOCHS}", f"--measure-epochs={EPOCHS // 12}")
    _slim(project / RUN)
    bundled = ("embed", name, "--model", "bundled", "--patches", "--side", SIDE)
    _engine(root, *bundled)
    _engine(root, "embed", name, "--model", f"{name}/{RUN}", "--view", "whole", "--side", SIDE)
    for number in ("1", "2"):
        of = (name, "--set", number)
        _engine(root, "index", *of)
        for method in MAPS:
            aligned = ("--align-to", "1") if number == "2" and "--classes" not in method else ()
            _engine(root, "map", *of, *method, *aligned, "--no-thumbnails")
        for verb in ("clusters", "duplicates", "oddities"):
            _engine(root, verb, *of)
    _engine(root, *bundled)  # nothing to do but to be the set that is meant where none is named


def _slim(run: Path) -> None:
    """Keep of a run what can be looked at: its events, probes and backbone, in float16. It cannot be gone on with."""
    backbone = read_backbone(run / "backbone.safetensors")
    about = {**backbone.about, "recipe": backbone.recipe}
    target = run / "backbone.safetensors"
    write_backbone(
        target, backbone.model, backbone.shape, about=about, dtype=torch.float16, mean=backbone.mean, std=backbone.std
    )
    shutil.rmtree(run / "checkpoints")
    (run / "init.safetensors").unlink()


def _engine(root: Path, *arguments: str) -> None:
    sys.stdout.write(f"$ engine {' '.join(arguments)}\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-P", "-m", "engine", *arguments, "--quiet"], cwd=root, check=True)


def _forget_place(root: Path, project: Path) -> None:
    """Write paths as they are from the project, and leave nothing that says where it was made."""
    shutil.rmtree(project / "cache", ignore_errors=True)
    for path in [path for pattern in LEFT_OUT for path in project.rglob(pattern)]:
        path.unlink()
    for path in [*project.rglob("*.json"), *project.rglob("*.jsonl"), *project.rglob("*.txt")]:
        text = path.read_text()
        for here in (json.dumps(str(project))[1:-1], str(project), PROJECT):
            text = text.replace(f"{here}/", "")
        path.write_text(text)
    database = sqlite3.connect(project / "project.sqlite", isolation_level=None)
    database.execute("UPDATE sets SET model = replace(model, ?, '')", (f"{PROJECT}/",))
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("VACUUM")
    database.close()
    told = [str(path) for path in project.rglob("*") if path.is_file() and str(root).encode() in path.read_bytes()]
    if told:
        raise SystemExit(f"These files say where they were made: {', '.join(told)}")


def _pack(project: Path) -> None:
    """Write the archive; the same files give the same bytes."""
    ARCHIVE.unlink(missing_ok=True)
    with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in project.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(project).as_posix(), DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
