"""How a command ends is said in words and, when asked for, as one JSON object; with the exit code of its kind."""

import errno
import json
import os
import signal
import sys

import pytest

import engine.commands.doctor as doctor
from engine.commands import Outcome, StopSignal
from engine.errors import BadInput, Stopped
from engine.protocol import Measured
from engine.terminal import Terminal, run


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


def raising(problem):
    def find_devices():
        raise problem

    return find_devices


@pytest.fixture(autouse=True)
def logs(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("problem", "code", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 3, "Permission denied: '/a/b'"),
        (FileExistsError(errno.EEXIST, "File exists", b"/a/\xff"), 3, "File exists: '/a/\\udcff'"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x"), 3, "Not a directory: 'x'"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 3, "No such file: 'x'"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 6, "disk is full"),
        (RuntimeError("Error while serializing (os error 28)"), 6, "disk is full"),
        (MemoryError(), 5, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …"), 5, "not enough memory"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), 5, "not enough memory"),
        (OSError(errno.EBADF, "Bad file descriptor"), 1, "fault of the program"),
        (KeyError("x"), 1, "fault of the program"),
        (BadInput("No."), 3, "No."),
    ],
)
def test_what_goes_wrong_has_its_sentence_exit_code_and_json(monkeypatch, capsys, problem, code, said):
    monkeypatch.setattr(doctor, "find_devices", raising(problem))
    assert run(["doctor", "--json"]) == code
    written = capsys.readouterr()
    assert said in written.err
    assert "Traceback" not in written.err
    told = json.loads(written.out)
    assert told["exit_code"] == code
    assert told["error"]


@pytest.mark.parametrize(("problem", "code"), [(Stopped(15), 143), (Stopped(2), 130), (KeyboardInterrupt(), 130)])
def test_being_stopped_is_said_as_json(monkeypatch, capsys, problem, code):
    monkeypatch.setattr(doctor, "find_devices", raising(problem))
    assert run(["doctor", "--json"]) == code
    assert json.loads(capsys.readouterr().out) == {"stopped": True, "exit_code": code}
    assert run(["doctor"]) == code
    assert capsys.readouterr().out == ""


def test_a_wrong_argument_is_exit_2(capsys):
    assert run(["doctor", "--jsno"]) == 2
    assert "--jsno" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("problem", "code", "said"),
    [
        (ImportError("libgomp.so.1: cannot open shared object file"), 1, "could not be loaded: libgomp.so.1"),
        (OSError("[WinError 126] c10.dll"), 1, "could not be loaded: [WinError 126]"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_command_that_cannot_be_loaded_is_a_sentence(monkeypatch, capsys, problem, code, said):
    monkeypatch.setattr("importlib.import_module", lambda _: raising(problem)())
    assert run(["doctor"]) == code
    assert said in capsys.readouterr().err


def test_names_that_are_no_utf8_are_written_as_escapes(monkeypatch, capfd):
    name = os.fsdecode(b"bad\xff.jpg")
    outcome = Outcome({"name": name}, name)
    monkeypatch.setattr(doctor, "run", lambda *_: outcome)
    with _reopened(1) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert run(["doctor"]) == 0
        assert run(["doctor", "--json"]) == 0
    text, data = capfd.readouterr().out.splitlines()
    assert text == "bad\\udcff.jpg"
    assert json.loads(data) == {"name": name}


def _reopened(descriptor):
    return os.fdopen(os.dup(descriptor), "w", encoding="utf-8")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"knn": 0.5, "neighbours_kept": 0.8}, "step 1,000: 20-NN accuracy 0.500\n"),
        ({"neighbours_kept": 0.834}, "step 1,000: 83 % of neighbours kept\n"),
        ({"loss": 1.0}, ""),
    ],
)
def test_measurements_for_people_are_shown(capsys, values, said):
    for is_quiet in (False, True):
        with Terminal(is_quiet=is_quiet) as terminal:
            terminal.tell(Measured(step=1000, values=values))
        assert capsys.readouterr().err == ("" if is_quiet else said)


def test_the_first_signal_asks_the_second_aborts_and_handlers_come_back(capfd):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert not stop.is_set()
        assert stop.stopped().exit_code == 130
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        assert stop.number == signal.SIGTERM
        assert stop.stopped().exit_code == 143
        assert capfd.readouterr().err == "finishing this step; Ctrl-C again aborts\n"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
