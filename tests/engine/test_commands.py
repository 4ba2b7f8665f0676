"""The command line as a person and as a script meet it, run for real on real files."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.commands import COMMANDS
from tests.killing import tiny_train
from tests.makers import write_photos

ENGINE = [sys.executable, "-m", "engine"]


def engine(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ENGINE, *arguments], capture_output=True, text=True, env=os.environ | environment, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    write_photos(folder, 12, labels=("cats", "dogs"))
    (folder / "cats/broken.jpg").write_bytes(b"")
    (folder / ".hidden.jpg").write_bytes(b"x")
    return folder


@pytest.fixture(scope="module")
def trained(photos):
    done = engine(*tiny_train(photos, photos.with_name("p.dinoviz")))
    assert done.returncode == 0, done.stderr
    return photos.with_name("p.dinoviz") / "runs/0001"


def test_help_is_there_within_a_third_of_a_second_and_lists_every_command():
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        done = engine("--help")
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.3
    assert all(f"  {name}" in done.stdout for name in COMMANDS)


def test_neither_help_nor_its_imports_load_torch():
    code = "import sys; from engine.terminal import run; run(['--help']); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        *COMMANDS,
        *(f"look {verb}" for verb in ("attention", "masks", "patches", "likeness", "matches")),
        *(f"models {verb}" for verb in ("list", "get", "import", "check")),
    ],
)
def test_every_command_has_two_examples_and_exit_codes(command):
    done = engine(*command.split(), "--help")
    assert done.returncode == 0, done.stderr
    examples = re.findall(r"^  (?:engine|torchrun) .+$", done.stdout, re.MULTILINE)
    assert len(examples) >= 2
    if " " not in command:
        assert "exit codes:" in done.stdout
    assert "--json" in done.stdout


def test_scan_names_what_cannot_be_read_and_exits_4(photos, tmp_path):
    done = engine("scan", str(photos), "--project", str(tmp_path / "p.dinoviz"))
    assert done.returncode == 4
    assert "13 pictures found, 12 readable" in done.stdout
    assert "cats/broken.jpg: empty file" in done.stdout
    assert "hidden file" in done.stdout
    again = engine("scan", str(photos), "--project", str(tmp_path / "p.dinoviz"), "--json")
    found = json.loads(again.stdout)
    assert (found["found"], found["readable"], found["checked"]) == (13, 12, 1), "what is unreadable is checked again"
    assert found["labels"] == {"cats": 6, "dogs": 6}
    assert found["unreadable"] == [{"path": "cats/broken.jpg", "problem": "empty file"}]


def test_scan_follows_what_changes_in_the_folder(tmp_path):
    folder = tmp_path / "photos"
    write_photos(folder, 3)
    assert json.loads(engine("scan", str(folder), "--json").stdout)["checked"] == 3
    (folder / "p00.jpg").unlink()
    write_photos(folder / "more", 1)
    found = json.loads(engine("scan", str(folder), "--json").stdout)
    assert (found["found"], found["checked"], found["gone"]) == (3, 1, 1)


def test_a_name_that_is_no_utf8_is_scanned_and_told(tmp_path):
    folder = tmp_path / "photos"
    write_photos(folder, 1)
    name = os.fsdecode(b"bad\xff.jpg")
    (folder / name).write_bytes(b"")
    done = engine("scan", str(folder), "--json")
    assert done.returncode == 4, done.stderr
    assert json.loads(done.stdout)["unreadable"] == [{"path": name, "problem": "empty file"}]
    done = engine("scan", str(folder))
    assert done.returncode == 4, done.stderr
    assert "bad\\udcff.jpg: empty file" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["scan", "nowhere"], 3, "There is no folder 'nowhere'"),
        (["train", "nowhere"], 3, "There is no folder 'nowhere'"),
        (["fly"], 2, "There is no command 'fly'"),
        (["models", "get", "dino_vitx"], 3, "no released weights 'dino_vitx'"),
        (["models", "check", "nowhere.pth"], 3, "nowhere.pth"),
        (["resume", "nowhere"], 3, "no run"),
    ],
)
def test_what_is_not_there_is_said_with_its_exit_code(arguments, code, said, tmp_path):
    done = subprocess.run([*ENGINE, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    done = engine("train", str(tmp_path / "empty"))
    assert done.returncode == 3
    assert "no readable pictures" in done.stderr


def test_a_wrong_setting_is_refused_before_anything_is_written(photos, tmp_path):
    done = engine("train", str(photos), "--project", str(tmp_path / "p.dinoviz"), "--epochs", "0")
    assert done.returncode == 2
    assert "'0' is no value for epochs" in done.stderr
    assert not (tmp_path / "p.dinoviz").exists()


def test_a_dry_run_prints_the_plan_with_reasons_and_trains_nothing(photos, tmp_path):
    (tmp_path / "run.toml").write_text("[dino]\nprototypes = 64\n")
    project = tmp_path / "p.dinoviz"
    flags = ["--project", str(project), "--config", str(tmp_path / "run.toml"), "--dry-run"]
    done = engine("train", str(photos), *flags)
    assert done.returncode == 0, done.stderr
    assert re.search(r"prototypes +64 +asked for", done.stdout)
    assert re.search(r"momentum +0.99 +in .* steps", done.stdout)
    assert not (project / "runs").exists()
    plan = json.loads(engine("train", str(photos), *flags, "--json").stdout)["plan"]
    assert plan["dino"]["prototypes"] == 64


def test_a_run_leaves_everything_that_is_promised(trained):
    plan = json.loads((trained / "plan.json").read_text())["plan"]
    assert plan["run"]["epochs"] == 6
    events = [json.loads(line) for line in (trained / "events.jsonl").read_text().splitlines()]
    measured = [event["values"] for event in events if event["kind"] == "measured"]
    assert {"loss", "teacher_entropy", "kl", "effective_rank", "learning_rate", "gradient_norm", "memory_bytes"} <= set(
        next(values for values in measured if "loss" in values)
    )
    assert sum("knn" in values for values in measured) == 4
    assert len(list((trained / "probes").glob("step-*.npz"))) >= 5
    assert len(list((trained / "checkpoints").glob("step-*"))) in (3, 4)
    assert (trained / "backbone.safetensors").is_file()


def test_looking_with_a_run_writes_pictures_of_every_head(trained, photos, tmp_path):
    picture = photos / "cats/p00.jpg"
    done = engine(
        "look", "attention", str(picture), "--model", str(trained), "--out", str(tmp_path), "--side", "64", "--json"
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["pictures"]
    names = {Path(file).name for file in row["files"]}
    assert {f"p00-{what}.png" for what in ("head0", "head1", "head2", "mean", "rollout", "composite", "sheet")} <= names
    assert "p00-attention.npz" in names


def test_masks_have_the_size_of_their_picture_and_bad_files_are_left_out(trained, photos, tmp_path):
    done = engine(
        "look", "masks", str(photos), "--model", str(trained), "--out", str(tmp_path), "--side", "64", "--keep", "0.5"
    )
    assert done.returncode == 4, done.stderr
    assert "empty file" in done.stdout
    masks = list(tmp_path.glob("*-mask-union.png"))
    assert len(masks) == 12
    with Image.open(masks[0]) as mask:
        assert mask.size == (80, 60)
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
    areas = json.loads((tmp_path / "masks.json").read_text())["pictures"]
    assert sum(bool(row["problem"]) for row in areas) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--query", "here"], "no list of whole numbers"),
        (["--query", "900,900"], "no patch at row 900"),
        (["--layer", "7"], "no layer 7"),
        (["--heads", "9"], "no head 9"),
    ],
)
def test_what_cannot_be_looked_at_is_said(trained, photos, tmp_path, flags, said):
    picture = str(photos / "cats/p00.jpg")
    done = engine("look", "attention", picture, "--model", str(trained), "--out", str(tmp_path), "--side", "64", *flags)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


def test_a_run_is_a_start_for_another_with_its_shape(trained, photos, tmp_path):
    done = engine(
        *tiny_train(photos, tmp_path / "p.dinoviz", epochs="1", measure_epochs="0", probes="0"), "--init", str(trained)
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p.dinoviz/runs/0001/init.safetensors").is_file()


def test_models_are_listed_imported_and_checked(trained, tmp_path):
    cache = {"DINOVIZ_CACHE": str(tmp_path / "cache")}
    listed = json.loads(engine("models", "list", "--json", **cache).stdout)
    assert len(listed["released"]) == 15
    assert all(row["licence"] == "Apache-2.0" and row["address"].startswith("https://") for row in listed["released"])
    backbone = str(trained / "backbone.safetensors")
    imported = engine("models", "import", backbone, "--name", "pets", **cache)
    assert imported.returncode == 0, imported.stderr
    assert json.loads(engine("models", "list", "--json", **cache).stdout)["imported"] == ["pets"]
    checked = json.loads(engine("models", "check", backbone, "--json", **cache).stdout)
    assert checked["loadable"]
    assert checked["layout"] == "native"


def test_doctor_knows_the_machine_and_changes_nothing(tmp_path):
    told = json.loads(engine("doctor", "--json", DINOVIZ_CACHE=str(tmp_path / "cache")).stdout)
    assert list(tmp_path.iterdir()) == []
    assert told["machine"]["cores"] >= 1
    assert told["packages"]["torch"]


def test_progress_is_plain_lines_without_colour_where_there_is_no_terminal(photos, tmp_path):
    done = engine("scan", str(photos), "--project", str(tmp_path / "p.dinoviz"))
    assert "checking pictures: 13/13 (100%)" in done.stderr
    assert "\x1b[" not in done.stdout + done.stderr


def test_a_fault_of_ours_is_a_short_report_not_a_traceback(monkeypatch, capsys, tmp_path):
    import engine.commands.doctor as doctor
    from engine.terminal import run

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "find_devices", lambda: 1 / 0)
    assert run(["doctor"]) == 1
    said = capsys.readouterr().err
    assert "fault of the program: ZeroDivisionError" in said
    assert "Traceback" not in said
    (report,) = tmp_path.rglob("engine-*.txt")
    assert "Traceback" in report.read_text()


def test_a_run_of_some_pictures_learns_from_those_alone_and_resumes_with_them(photos, tmp_path):
    project = photos.with_name("p.dinoviz")
    scanned = json.loads(engine("scan", str(photos), "--project", str(project), "--json", "--quiet").stdout)
    assert scanned["found"] >= 12
    chosen = tmp_path / "some.txt"
    chosen.write_text("cats/p00.jpg\ncats/p02.jpg\n12\ncats/p04.jpg\ncats/p06.jpg\n")
    done = engine(*tiny_train(photos, project, epochs="2"), "--only", str(chosen), "--json")
    assert done.returncode == 0, done.stderr
    run = Path(json.loads(done.stdout)["run"])
    assert json.loads((run / "plan.json").read_text())["plan"]["pictures"] == 5
    resumed = engine("resume", str(run), "--json", "--quiet")
    assert resumed.returncode == 0, resumed.stderr
    chosen.write_text("cats/gone.jpg\n")
    refused = engine("train", str(photos), "--project", str(project), "--only", str(chosen), "--dry-run")
    assert refused.returncode == 3
    assert "cats/gone.jpg" in refused.stderr
