"""The recipes for several machines name only what torchrun and the engine know."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.commands import COMMANDS
from engine.commands.train import parser

CLUSTER = Path(__file__).parents[1] / "packaging" / "cluster"
SCRIPTS = sorted([*CLUSTER.glob("*.sh"), *CLUSTER.glob("*.slurm")])
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def flags_of(text):
    return set(FLAG.findall(text))


@pytest.fixture(scope="module")
def torchrun():
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--help"], capture_output=True, text=True, check=True
    )
    return flags_of(done.stdout)


def call_in(script):
    """The words that the script gives to torchrun, and those that it gives to the engine."""
    code = "\n".join(line for line in script.read_text().splitlines() if not line.startswith("#"))
    ours, _, engine = code.partition("torchrun")[2].partition("-m engine")
    return ours, engine


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_flag_of_a_recipe_exists(script, torchrun):
    ours, engine = call_in(script)
    assert {"--nnodes", "--rdzv-id", "--max-restarts"} <= flags_of(ours) <= torchrun
    assert engine.split()[0] in COMMANDS
    assert flags_of(engine) <= flags_of(parser().format_help())


def test_the_readme_names_flags_that_exist(torchrun):
    text = (CLUSTER / "README.md").read_text()
    known = torchrun | flags_of(parser().format_help()) | {"--nodes", "--requeue"}  # these two are Slurm's
    assert flags_of(text) <= known


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script):
    done = subprocess.run(["shellcheck", "--shell=bash", script], capture_output=True, text=True, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_recipe_without_a_folder_says_how_it_is_used(script):
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_the_plain_recipe_calls_torchrun_with_what_it_was_told(tmp_path):
    (tmp_path / "torchrun").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / "torchrun").chmod(0o755)
    told = {"RUN": "a", "FIRST": "node01", "NODES": "2:4", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", CLUSTER / "train-on-each.sh", "a folder", "--epochs", "3"],
        capture_output=True,
        text=True,
        check=True,
        env=told,
    )
    words = done.stdout.splitlines()
    assert words[words.index("--nnodes") + 1] == "2:4"
    assert words[words.index("--rdzv-endpoint") + 1] == "node01:29400"
    assert words[words.index("train") + 1 :] == ["a folder", "--epochs", "3", "--device", "cuda"]
