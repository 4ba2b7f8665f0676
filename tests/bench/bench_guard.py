"""Fine-tuning under guard against plain continuation: does either leave a backbone worse than it began?

Run ``python tests/bench/bench_guard.py FOLDER [runs]``. The bundled backbone is fine-tuned on other pictures: hands
showing digits (with their labels, and with these hidden), horses, and the sample photos; over learning rates from the
settled one to forty times as much, and over seeds. Each of up to 20 runs is made twice: as it is settled, with the
guard, and as a plain continuation (no guard, heads and backbone together, one rate for all layers, the settings of a
run from noise), at the same peak rate. What was measured lies in FOLDER/runs.json, the curves in FOLDER/curves.png;
runs that are there are not made again.

Whether harm was done is judged anew, from the written backbone in float32 beside that of the start: a score below 1 by
more than one standard error. Where labels are hidden from the run, the accuracy they give is shown too.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from engine.measuring.knn import leave_one_out_accuracy  # noqa: E402
from engine.models.weights import read_backbone  # noqa: E402
from engine.project import Project  # noqa: E402
from engine.protocol import Measured, Noticed, decode  # noqa: E402
from engine.terminal import run as run_engine  # noqa: E402
from engine.training.gauge import Gauge, Look, See, features, make_gauge  # noqa: E402
from engine.training.guard import score_of, tolerance_of  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
SIDE = 48
BATCH = 16
CASES: list[tuple[float | None, int]] = [(2e-3, 0), (8e-3, 1), (None, 0), (5e-4, 0), (2e-3, 1)]
"""Peak learning rate, None for the settled one, and seed. 5e-4 is that of a run from noise."""
SETTLED = 2e-4
PLAIN = {
    "guard": "no",
    "heads-first-epochs": "0",
    "layer-decay": "1",
    "patch-embed-rate": "1",
    "momentum": "0.99",
    "weight-decay-end": "0.4",
    "teacher-temperature": "0.02",
}


@dataclass(frozen=True)
class Domain:
    """Pictures of one kind; ``epochs`` make a run of 300 steps or so, ``every`` epochs a plain one is looked at."""

    name: str
    epochs: int
    every: int
    has_hidden_labels: bool = False


DOMAINS = (
    Domain("digits", 3, 1),
    Domain("digits-hidden", 3, 1, has_hidden_labels=True),
    Domain("horses", 30, 5),
    Domain("photos", 90, 15),
)


def main() -> int:
    folder = Path(sys.argv[1])
    n_runs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "runs.json"
    results: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    for domain, peak, seed, is_guarded in _all_runs(n_runs):
        key = _key(domain, peak, seed, is_guarded)
        if key not in results:
            results[key] = _made(folder, domain, peak, seed, is_guarded)
            kept.write_text(json.dumps(results, indent=1))
            print(_line(key, results[key]), flush=True)
    keys = [_key(*one) for one in _all_runs(n_runs)]
    _draw({key: results[key] for key in keys}, folder / "curves.png")
    return _summary({key: results[key] for key in keys})


def _all_runs(n_runs: int) -> Iterator[tuple[Domain, float | None, int, bool]]:
    pairs = [(domain, peak, seed) for peak, seed in CASES for domain in DOMAINS][:n_runs]
    return ((*pair, is_guarded) for pair in pairs for is_guarded in (True, False))


def _key(domain: Domain, peak: float | None, seed: int, is_guarded: bool) -> str:
    return f"{domain.name} {peak or SETTLED:g} seed {seed} {'guarded' if is_guarded else 'plain'}"


def _made(folder: Path, domain: Domain, peak: float | None, seed: int, is_guarded: bool) -> dict[str, Any]:
    """Make one run in a process of its own, and judge what it wrote."""
    project = folder / "project.dinoviz"
    shutil.rmtree(project, ignore_errors=True)
    flags = {
        "init": "bundled",
        "device": "cpu",
        "seed": str(seed),
        "batch": str(BATCH),
        "epochs": str(domain.epochs),
        "global-side": str(SIDE),
        "measure-epochs": str(domain.every),
        "probes": "0",
        "workers": "0",
    }
    if peak is not None or not is_guarded:
        flags["learning-rate"] = str((peak or SETTLED) * 256 / BATCH)
    flags |= {} if is_guarded else PLAIN
    readings = folder / "readings.json"
    command = ["train", str(_pictures(folder, domain)), "--project", str(project), "--quiet"]
    begun = time.monotonic()
    child = subprocess.run(
        [sys.executable, __file__, "--child", str(readings), *command, *(f"--{n}={v}" for n, v in flags.items())],
        capture_output=True,
        text=True,
    )
    took_s = time.monotonic() - begun
    assert child.returncode in (0, 7), child.stderr  # 7: it diverged
    run = project / "runs/0001"
    said = [decode(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [message.step for message in said if isinstance(message, Measured) and "loss" not in message.values]
    curve = [[step, score] for step, score in zip(steps, json.loads(readings.read_text()), strict=False)]
    return {
        "took_s": took_s,
        "diverged": child.returncode == 7,
        "rollbacks": sum(isinstance(message, Noticed) and message.text.startswith("Rollback") for message in said),
        "curve": curve,
        **_judged(project, run, domain),
    }


def _child(readings: Path, argv: list[str]) -> int:
    """Run a command and leave the score of everything that was measured, whether or not it was measured for a guard."""
    scores: list[float] = []
    first: list[Look] = []
    measure = Gauge.measure

    def recorded(gauge: Gauge, see: See, start_Qk: torch.Tensor | None = None) -> Look:
        look = measure(gauge, see, first[0].neighbours_Qk if first else start_Qk)
        first.append(look)
        scores.append(score_of(look.reading, first[0].reading))
        return look

    Gauge.measure = recorded  # type: ignore[method-assign]
    code = run_engine(argv)
    readings.write_text(json.dumps(scores))
    return code


def _judged(project: Path, run: Path, domain: Domain) -> dict[str, Any]:
    """Return how the written backbone compares with that of the start, by float32 features of the gauge's pictures."""
    with Project.at(project) as opened:
        pictures = opened.pictures(readable=True)
        root = opened.pictures_folder
    if domain.has_hidden_labels:
        pictures = [replace(picture, label=picture.path[0]) for picture in pictures]
    gauge = make_gauge(root, pictures, SIDE, seed=0)
    assert gauge is not None
    labels_N = gauge.labels_N
    if domain.has_hidden_labels:
        gauge = replace(gauge, labels_N=None)
    seen = {}
    for name in ("init", "backbone"):
        if not (run / f"{name}.safetensors").exists():
            return {"score": 0.0, "tolerance": 0.0}
        backbone = read_backbone(run / f"{name}.safetensors").model
        seen[name] = features(backbone, gauge.pictures_NYXC, torch.device("cpu"))
    start = gauge.measure(lambda _pictures: seen["init"])
    now = gauge.measure(lambda _pictures: seen["backbone"], start.neighbours_Qk)
    judged = {
        "score": score_of(now.reading, start.reading),
        "tolerance": tolerance_of(start.reading),
        "start": asdict(start.reading),
        "end": asdict(now.reading),
    }
    if domain.has_hidden_labels:
        assert labels_N is not None
        places_N = torch.arange(len(labels_N))
        judged["hidden"] = [leave_one_out_accuracy(seen[name], labels_N, places_N) for name in ("init", "backbone")]
    return judged


def _pictures(folder: Path, domain: Domain) -> Path:
    """Return the folder of a domain's pictures; hidden labels are in the names of copies in one folder."""
    match domain.name:
        case "digits":
            return DATA / "classification" / "sign_digits"
        case "horses":
            return DATA / "segmentation" / "horses" / "images"
        case "photos":
            return ROOT / "resources" / "photos"
    flat = folder / "digits-hidden"
    if not flat.exists():
        flat.mkdir()
        root = DATA / "classification" / "sign_digits"
        for path in sorted(root.glob("*/*/*.jpg")):
            shutil.copy(path, flat / f"{path.parent.name}-{path.parent.parent.name}-{path.name}")
    return flat


def _is_worse(result: dict[str, Any]) -> bool:
    return not result["score"] >= 1.0 - result["tolerance"]


def _line(key: str, result: dict[str, Any]) -> str:
    numbers = "diverged"
    if "start" in result:
        start, end = result["start"], result["end"]
        numbers = f"rank {start['effective_rank']:6.1f} → {end['effective_rank']:6.1f}"
        if start["n_asked"]:
            numbers = f"k-NN {start['knn']:6.3f} → {end['knn']:6.3f}"
        if "hidden" in result:
            numbers += " (hidden labels: k-NN {:.3f} → {:.3f})".format(*result["hidden"])
    worse = "WORSE" if _is_worse(result) else "     "
    return f"{key:<38} {worse} score {result['score']:.3f} ± {result['tolerance']:.3f}  {numbers}, {result['rollbacks']} rollbacks, {result['took_s']:.0f} s"  # noqa: E501 - one line of a table


def _summary(results: dict[str, dict[str, Any]]) -> int:
    """Print the table; fail when the guard let harm through in more than one of twenty runs."""
    for key, result in results.items():
        print(_line(key, result))
    shares = {}
    for kind in ("guarded", "plain"):
        of_kind = [result for key, result in results.items() if key.endswith(kind)]
        n_worse = sum(map(_is_worse, of_kind))
        better = sum(result["score"] > 1.0 for result in of_kind)
        strictly = sum(result["score"] < 1.0 - 1e-6 for result in of_kind)
        shares[kind] = n_worse / len(of_kind)
        print(f"{kind}: {len(of_kind)} runs, {better} better than the start, {n_worse} worse by more than chance, "
              f"{strictly} by anything")  # fmt: skip
    return 0 if shares["guarded"] <= 0.05 else 1


PANEL, EDGE, LOWEST = 420, 44, 0.0
COLOURS = {2e-4: "#2a9d5c", 5e-4: "#2f6fb5", 2e-3: "#d98a1f", 8e-3: "#c23b3b"}


def _draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the score over the steps, one panel a domain: runs under guard as lines, plain ones dotted."""
    page = Image.new("RGB", (PANEL * len(DOMAINS), PANEL + EDGE), "white")
    draw = ImageDraw.Draw(page)
    for column, domain in enumerate(DOMAINS):
        left, top, side = column * PANEL + EDGE, EDGE, PANEL - 2 * EDGE
        of_domain = {key: result for key, result in results.items() if key.split()[0] == domain.name}
        scores = [score for result in of_domain.values() for _, score in result["curve"]]
        low, high = min([0.9, *scores]) - 0.02, max([1.05, *scores]) + 0.02
        last = max([1, *(step for result in of_domain.values() for step, _ in result["curve"])])

        def at(step: float, score: float, place: tuple[Any, ...] = (left, top, side, low, high, last)) -> Any:
            left, top, side, low, high, last = place
            return left + side * step / last, top + side * (1 - (score - low) / (high - low))

        draw.rectangle((left, top, left + side, top + side), outline="#bbbbbb")
        draw.line((at(0, 1.0), at(last, 1.0)), fill="#888888")
        draw.text((left, top - 16), f"{domain.name}: score, 1 as at the start", fill="black")
        draw.text((left, top + side + 4), f"0 to {last} steps; {low:.2f} to {high:.2f}", fill="black")
        for key, result in of_domain.items():
            points = [at(step, score) for step, score in result["curve"]]
            colour = COLOURS[float(key.split()[1])]
            if key.endswith("guarded"):
                draw.line(points, fill=colour, width=3)
            else:
                _dotted(draw, points, colour)
    for place, (peak, colour) in enumerate(COLOURS.items()):
        draw.text((EDGE + place * 150, PANEL + 8), f"peak rate {peak:g}", fill=colour)
    draw.text((EDGE + 4 * 150, PANEL + 8), "line: under guard; dots: plain continuation", fill="black")
    page.save(path)


def _dotted(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: str) -> None:
    for (x0, y0), (x1, y1) in pairwise(points):
        n = max(1, int(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 / 7))
        for i in range(n + 1):
            x, y = x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n
            draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=colour)


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        os._exit(_child(Path(sys.argv[2]), sys.argv[3:]))
    raise SystemExit(main())
