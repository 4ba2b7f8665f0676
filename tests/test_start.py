"""Setting up and handing over: Ctrl-C is the child's to answer, and half an environment is made again."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

START = Path(__file__).parents[1] / "packaging" / "start.py"
SLOW_TO_STOP = """
import signal, sys, time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    sys.exit(7)
"""
CALL = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("start", sys.argv[1])
start = importlib.util.module_from_spec(spec)
spec.loader.exec_module(start)
sys.exit(start.run([sys.executable, "-c", sys.argv[2]], folder=None))
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("start", START)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path / "venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / "venv/bin/python")
    return module


@pytest.mark.skipif(os.name == "nt", reason="signals to a group are sent otherwise there")
def test_ctrl_c_waits_for_the_child_to_end_in_its_own_way():
    call = subprocess.Popen(
        [sys.executable, "-c", CALL, str(START), SLOW_TO_STOP],
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with call:
        assert call.stdout.readline() == b"ready\n"
        os.killpg(call.pid, signal.SIGINT)
        assert call.wait(timeout=20) == 7


def test_the_engine_runs_where_the_person_is(tmp_path, monkeypatch, start):
    ran = []
    monkeypatch.setattr(start, "set_up", lambda _: True)
    monkeypatch.setattr(start, "run", lambda command, folder: ran.append((command[1:], folder)) or 0)
    for job in ("engine", "demo"):
        monkeypatch.setattr(sys, "argv", ["start.py", job, "scan", "photos"])
        assert start.main() == 0
    assert ran[0] == (["-P", "-m", "engine", "scan", "photos"], None)
    assert ran[1][1] == START.parents[1]


def test_half_an_environment_is_made_again(start):
    start.PYTHON.parent.mkdir(parents=True)
    start.PYTHON.symlink_to("/bin/false")
    assert start.make_environment()
    assert start.has_pip()


@pytest.mark.parametrize("problem", [SystemExit(1), subprocess.CalledProcessError(1, "ensurepip")])
def test_a_python_without_venv_is_told_what_to_install(monkeypatch, capsys, start, problem):
    def create(folder, **_):
        folder.mkdir()
        raise problem

    monkeypatch.setattr(start.venv, "create", create)
    assert not start.make_environment()
    assert "apt-get install -y python3" in capsys.readouterr().out
    assert not start.VENV.exists()


def test_a_loader_that_says_nothing_is_no_fault_of_ours(monkeypatch, capsys, start):
    start.PYTHON.parent.mkdir(parents=True)
    start.PYTHON.symlink_to("/bin/false")
    assert not start.can_load()
    assert "ended with 1" in capsys.readouterr().out
