"""Batches are functions of the seed and the step: workers, processes and interruptions change nothing."""

import shutil

import numpy as np
import psutil
import pytest
import torch

from engine.errors import BadInput
from engine.images import find_pictures
from engine.project import Picture
from engine.recipes import Plan, Recipe, settle
from engine.settings import Facts
from engine.training.batches import Batches, epoch_order, load
from engine.training.pictures import Copies, PictureList, Pixels, fingerprint
from tests.makers import write_photos


@pytest.fixture
def folder(tmp_path):
    write_photos(tmp_path / "photos", 12)
    return tmp_path / "photos"


def listed(folder) -> list[Picture]:
    return [
        Picture(id=i + 1, path=f.path, size_bytes=f.size_bytes, mtime_ns=f.mtime_ns, rows=60, cols=80, hash=f.path)
        for i, f in enumerate(find_pictures(folder).pictures)
    ]


def plan_for(n: int, **asked) -> Plan:
    wanted = {"batch": 4, "global_side": 32, "local_side": 16, "local_crops": 2, "epochs": 3, "workers": 0} | asked
    return settle(Recipe.of(wanted), Facts(n_pictures=n))


def pixels_of(folder, run) -> Pixels:
    run.mkdir(exist_ok=True)
    return Pixels(PictureList.write(run, listed(folder)), folder)


def same(a, b) -> bool:
    return torch.equal(a.globals_GBYXC, b.globals_GBYXC) and torch.equal(a.locals_VBYXC, b.locals_VBYXC)


def test_any_number_of_workers_gives_the_same_batches(folder, tmp_path):
    pixels = pixels_of(folder, tmp_path / "run")
    batches = Batches(plan_for(12), pixels)
    alone = list(load(batches, range(5), workers=0, pin=False, tell=print))
    together = list(load(batches, range(5), workers=2, pin=False, tell=print))
    assert [batch.step for batch in together] == [0, 1, 2, 3, 4]
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


def test_a_batch_is_the_same_whatever_came_before(folder, tmp_path):
    pixels = pixels_of(folder, tmp_path / "run")
    assert same(
        next(iter(load(Batches(plan_for(12), pixels), range(4, 5), workers=0, pin=False, tell=print))),
        Batches(plan_for(12), pixels)[4],
    )


def test_processes_share_the_batch_of_one(folder, tmp_path):
    pixels = pixels_of(folder, tmp_path / "run")
    whole = Batches(plan_for(12), pixels)[1]
    plan = plan_for(12).model_copy(update={"processes": 2})
    halves = [Batches(plan, pixels, rank=rank)[1] for rank in range(2)]
    assert torch.equal(torch.cat([half.globals_GBYXC for half in halves], dim=1), whole.globals_GBYXC)


def test_every_picture_comes_once_an_epoch_in_another_order():
    first, second = epoch_order(0, 0, 100), epoch_order(0, 1, 100)
    assert sorted(first) == sorted(second) == list(range(100))
    assert list(first) != list(second)
    assert list(epoch_order(1, 0, 100)) != list(first)


def test_a_file_that_broke_is_replaced_by_the_same_other_one_and_named(folder, tmp_path):
    pixels = pixels_of(folder, tmp_path / "run")
    (folder / "p03.jpg").write_bytes(b"broken")
    first = [Batches(plan_for(12), pixels)[step] for step in range(3)]
    again = list(load(Batches(plan_for(12), pixels), range(3), workers=2, pin=False, tell=print))
    replaced = {picture: problem for batch in first for picture, problem in batch.replaced.items()}
    assert list(replaced) == ["p03.jpg"]
    assert "not a picture" in replaced["p03.jpg"]
    assert all(same(a, b) and a.replaced == b.replaced for a, b in zip(first, again, strict=True))


def test_a_killed_loader_is_started_again_and_nothing_is_lost(folder, tmp_path):
    batches = Batches(plan_for(12, epochs=9), pixels_of(folder, tmp_path / "run"))
    told = []
    made = load(batches, range(24), workers=1, pin=False, tell=told.append)
    together = [next(made)]
    for child in psutil.Process().children():
        if any("spawn_main" in word for word in child.cmdline()):
            child.kill()
    together += made
    assert [batch.step for batch in together] == list(range(24))
    assert all(same(batches[batch.step], batch) for batch in together)
    assert any("started again" in message.text for message in told)


def test_a_folder_that_vanished_is_said_by_the_loader_without_a_traceback(folder, tmp_path):
    batches = Batches(plan_for(12), pixels_of(folder, tmp_path / "run"))
    shutil.rmtree(folder)
    with pytest.raises(BadInput, match=r"^None of the pictures can be read any more\. Scan"):
        next(load(batches, range(2), workers=1, pin=False, tell=print))


def test_a_folder_that_vanished_is_said_and_no_endless_search(folder, tmp_path):
    pixels = pixels_of(folder, tmp_path / "run")
    shutil.rmtree(folder)
    with pytest.raises(BadInput, match="None of the pictures"):
        Batches(plan_for(12), pixels)[0]


def test_parts_are_the_batch_in_order(folder, tmp_path):
    batch = Batches(plan_for(12), pixels_of(folder, tmp_path / "run"))[0]
    parts = list(batch.parts(2))
    assert [len(part.views_VBYXC) for part in parts] == [4, 4]
    for view in range(4):
        stored = batch.globals_GBYXC[view] if view < 2 else batch.locals_VBYXC[view - 2]
        assert torch.equal(torch.cat([part.views_VBYXC[view] for part in parts]), stored)


def test_copies_are_shrunken_once_and_a_broken_picture_stays_out(folder, tmp_path):
    (folder / "p05.jpg").write_bytes(b"broken")
    pixels = pixels_of(folder, tmp_path / "run")
    told = []
    copies = Copies.make(tmp_path / "copies", pixels, 30, 0, told.append)
    assert copies.read(0).shape == (30, 40, 3)
    again = Copies.make(tmp_path / "copies", pixels, 30, 0, lambda message: pytest.fail("made twice"))
    assert np.array_equal(again.read(7), copies.read(7))
    batch_names = Batches(plan_for(12), Pixels(pixels.pictures, folder, copies))
    assert {"p05.jpg"} == {picture for step in range(3) for picture in batch_names[step].replaced}


def test_a_list_names_what_changed(folder, tmp_path):
    before = listed(folder)
    pictures = PictureList.write(tmp_path, before)
    assert pictures.difference(before) == ""
    changed = [*before[1:-1], Picture(path="new.jpg", size_bytes=1, mtime_ns=1, rows=1, cols=1)]
    assert pictures.difference(changed) == "1 new, 2 gone"
    assert fingerprint(before) != fingerprint(changed)
