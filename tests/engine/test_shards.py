import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from engine import shards
from engine.commands.scanning import open_project, scan_into
from engine.errors import BadInput, UnreadablePicture
from engine.images import find_pictures, open_rgb, probe_many, thumbnail
from engine.pipes import spool
from engine.project import Project
from engine.protocol import Noticed
from engine.sources import Shards, expanded, shard_names, source
from engine.terminal import run
from engine.training.pictures import PictureList, Pixels
from tests.killing import tiny_train
from tests.makers import photo, write_photos
from tests.together import run_together


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DINOVIZ_CACHE", str(tmp_path / "user-cache"))
    return tmp_path / "user-cache" / "shards"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def ignore(_message):
    pass


def jpeg(seed=0):
    file = io.BytesIO()
    Image.fromarray(photo(seed)).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_shard(path, members, kind=tarfile.GNU_FORMAT):
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def found_in(folder, only=None):
    return {found.path: found.label for found in find_pictures(folder, only).pictures}


def passed_over(folder):
    return {row.path: row.reason for row in find_pictures(folder).passed_over}


def test_what_webdataset_writes_is_read_as_it_was_written(folder):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(folder / "a.tar")) as writer:
        for i in range(6):
            writer.write({"__key__": f"deep/{i:04d}", "jpg": jpeg(i), "cls": i % 2, "json": {"other": 1}})
    with (folder / "a.tar").open("rb") as file:
        members = webdataset.tariterators.tar_file_expander([{"url": "a.tar", "stream": file}])
        theirs = list(webdataset.tariterators.group_by_keys(members))
    assert found_in(folder) == {f"a.tar/{sample['__key__']}.jpg": sample["cls"].decode() for sample in theirs}
    for sample in theirs:
        with shards.opened(folder / "a.tar" / f"{sample['__key__']}.jpg") as file:
            assert file.read() == sample["jpg"]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_of_every_kind_of_tar_are_read(folder, kind):
    names = ["plain.jpg", "f/" * 20 + "x" * 90 + ".jpg", "Ünïcode 東京.jpg"]
    if kind != tarfile.USTAR_FORMAT:
        names.append("long/" + "y" * 180 + ".jpg")
    write_shard(folder / "a.tar", {name: jpeg(i) for i, name in enumerate(names)}, kind)
    assert set(found_in(folder)) == {f"a.tar/{name}" for name in names}
    for i, name in enumerate(names):
        assert shards.opened(folder / "a.tar" / name).read() == jpeg(i)


def test_a_picture_in_a_shard_is_opened_like_a_file(folder):
    (folder / "b.jpg").write_bytes(jpeg(3))
    write_shard(folder / "a.tar", {"./b.jpg": jpeg(3)})
    inside = folder / "a.tar" / "b.jpg"
    assert shards.is_there(inside)
    assert shards.is_there(folder / "b.jpg")
    assert not shards.is_there(folder / "a.tar" / "c.jpg")
    assert not shards.is_there(folder / "c.jpg")
    assert np.array_equal(open_rgb(inside), open_rgb(folder / "b.jpg"))
    assert np.array_equal(thumbnail(inside, 16), thumbnail(folder / "b.jpg", 16))
    assert list(probe_many([inside], workers=1)) == list(probe_many([folder / "b.jpg"], workers=0))


def test_the_label_lies_beside_the_picture_or_is_its_folder(folder):
    sample = {
        "1.jpg": jpeg(),
        "1.cls": b"7\n",
        "2.jpg": jpeg(),
        "2.json": b'{"label": "cat", "more": 1}',
        "3.jpg": jpeg(),
        "3.txt": b"great white shark",
        "4.jpg": jpeg(),
        "4.txt": b"a photo of two dogs that play in the snow",
        "dogs/5.jpg": jpeg(),
        "dogs/6.jpg": jpeg(),
        "dogs/6.json": b'{"label": 3}',
    }
    write_shard(folder / "a.tar", sample)
    labels = ["7", "cat", "great white shark", None, "dogs", "3"]
    names = ["1", "2", "3", "4", "dogs/5", "dogs/6"]
    assert found_in(folder) == {f"a.tar/{name}.jpg": label for name, label in zip(names, labels, strict=True)}


def test_the_split_is_in_the_name_of_the_shard_or_of_a_folder(folder):
    (folder / "test").mkdir()
    for name in ("imagenet-train-000.tar", "imagenet-val-000.tar", "test/0.tar", "other.tar"):
        write_shard(folder / name, {"1.jpg": jpeg()})
    write_shard(folder / "one.tar", {"validation/cat/1.jpg": jpeg()})
    assert {found.path.rpartition(".tar")[0]: found.split for found in find_pictures(folder).pictures} == {
        "imagenet-train-000": "train",
        "imagenet-val-000": "val",
        "test/0": "test",
        "other": None,
        "one": "val",
    }


def test_of_a_sample_one_picture_is_taken_and_its_other_fields_are_not(folder):
    write_shard(
        folder / "a.tar",
        {
            "1.seg.png": jpeg(),
            "1.jpg": jpeg(),
            "1.png": jpeg(),
            "1.txt": b"cat",
            "photo.2023.jpg": jpeg(),
            "photo.2024.jpg": jpeg(),
            "only.txt": b"no picture",
            "._1.jpg": b"of another system",
        },
    )
    assert set(found_in(folder)) == {"a.tar/1.jpg", "a.tar/photo.2023.jpg", "a.tar/photo.2024.jpg"}
    assert passed_over(folder) == {
        "a.tar/1.png": "another picture of its sample",
        "a.tar/1.seg.png": "another picture of its sample",
        "a.tar/only.txt": "not a picture",
        "a.tar/._1.jpg": "hidden file",
    }


def test_what_is_damaged_is_named_and_the_rest_is_read(folder):
    whole = write_shard(folder / "a.tar", {f"{i}.jpg": jpeg(i) for i in range(4)}).read_bytes()
    second = shards.find(folder / "a.tar", "1.jpg")["offset"]
    damaged = bytearray(whole)
    damaged[second - 512 : second - 400] = b"?" * 112
    (folder / "a.tar").write_bytes(damaged)
    last = shards.find(folder / "a.tar", "3.jpg")["offset"]
    (folder / "b.tar").write_bytes(whole[: last + 100])
    (folder / "c.tar").write_bytes(b"no archive " * 100)
    (folder / "d.tar").write_bytes(b"")
    (folder / "e.tar").write_bytes(whole[: last - 512])
    assert set(found_in(folder)) == {
        *(f"a.tar/{i}.jpg" for i in (0, 2, 3)),
        *(f"b.tar/{i}.jpg" for i in (0, 1, 2)),
        *(f"e.tar/{i}.jpg" for i in (0, 1, 2)),
    }
    reasons = passed_over(folder)
    assert reasons["a.tar"].startswith(f"damaged from byte {second - 512:,} to ")
    assert reasons["b.tar/3.jpg"] == "cut off: the archive ends before it does"
    assert reasons["c.tar"] == "no tar archive"
    assert reasons["d.tar"] == reasons["e.tar"] == "has no end: members may be missing"


def test_links_and_names_that_lead_out_of_an_archive_are_not_followed(folder):
    with tarfile.open(folder / "a.tar", "w") as tar:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        out = tarfile.TarInfo("../out.jpg")
        out.size = 3
        tar.addfile(out, io.BytesIO(b"abc"))
    assert passed_over(folder) == {
        "a.tar/link.jpg": "a link within an archive",
        "a.tar/../out.jpg": "a name that leads out of the archive",
    }


@settings(deadline=None, max_examples=60)
@given(at=st.integers(0, 5000), junk=st.binary(min_size=1, max_size=700), keep=st.integers(0, 12000))
def test_no_bytes_make_reading_a_shard_fail(tmp_path_factory, at, junk, keep):
    folder = tmp_path_factory.mktemp("fuzz")
    whole = write_shard(folder / "a.tar", {"1.jpg": jpeg(), "1.json": b'{"label": 1}', "2.jpg": b"x" * 600})
    content = bytearray(whole.read_bytes())
    content[at : at + len(junk)] = junk
    whole.write_bytes(content[:keep])
    for found in find_pictures(folder).pictures:
        assert len(shards.opened(folder / found.path).read()) == found.size_bytes


def test_a_shard_is_listed_once_and_again_when_it_changed(folder, cache, monkeypatch):
    write_shard(folder / "a.tar", {"1.jpg": jpeg()})
    assert set(found_in(folder)) == {"a.tar/1.jpg"}
    shards._index.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_Walk", None)  # whoever lists it again fails
        assert set(found_in(folder)) == {"a.tar/1.jpg"}
    write_shard(folder / "a.tar", {"1.jpg": jpeg(), "2.jpg": jpeg()})
    assert set(found_in(folder)) == {"a.tar/1.jpg", "a.tar/2.jpg"}
    for kept in cache.iterdir():
        kept.write_bytes(b"half")
    shards._index.cache_clear()
    assert set(found_in(folder)) == {"a.tar/1.jpg", "a.tar/2.jpg"}


def test_a_member_that_is_gone_is_an_unreadable_picture(folder):
    write_shard(folder / "a.tar", {"1.jpg": jpeg()})
    with pytest.raises(UnreadablePicture, match="no longer in the shard"):
        open_rgb(folder / "a.tar" / "2.jpg")


def test_the_pixels_of_a_run_come_from_shards_in_any_order(folder, tmp_path):
    for number in range(2):
        write_shard(folder / f"{number}.tar", {f"{i}.jpg": jpeg(10 * number + i) for i in range(5)})
    with open_project(folder, None, ignore) as project:
        pictures = scan_into(project, ignore).readable
        pixels = Pixels(PictureList.write(project.folder, pictures), project.pictures_folder)
    for index in (7, 0, 9, 4, 5):
        number, i = divmod(index, 5)
        assert pixels.pictures.path(index) == f"{number}.tar/{i}.jpg"
        assert np.array_equal(pixels.read(index), np.asarray(Image.open(io.BytesIO(jpeg(10 * number + i)))))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("a-{2..0}.tar", ["a-2.tar", "a-1.tar", "a-0.tar"]),
        ("{x,y/z}-{0..1}.tar", ["x-0.tar", "x-1.tar", "y/z-0.tar", "y/z-1.tar"]),
        ("{one}.tar", ["{one}.tar"]),
        ("{a,{b,c}}", ["a", "b", "c"]),
    ],
)
def test_braces_stand_for_what_a_shell_makes_of_them(pattern, names):
    assert sorted(expanded(pattern)) == sorted(names)
    if "{b" not in pattern:
        assert expanded(pattern) == names


def test_too_many_names_are_refused_before_they_fill_the_memory():
    with pytest.raises(BadInput, match="more than 1,000,000 names"):
        expanded("{0..99999}-{0..99999}.tar")


def test_a_source_is_a_folder_a_pattern_or_commands(folder):
    assert source(str(folder)) == folder
    assert source(f"{folder}/a-{{0..9}}.tar") == Shards(folder, "a-{0..9}.tar")
    assert source(f"{folder}/*/a.tar") == Shards(folder, "*/a.tar")
    assert source("pipe:cat s3://x/a.tar") == Shards(None, "pipe:cat s3://x/a.tar")
    (folder / "kept.tar").mkdir()
    assert source(f"{folder}/kept.tar") == folder / "kept.tar"


def test_a_pattern_takes_some_shards_and_names_the_missing_ones(folder):
    for number in (0, 1, 3, 7):
        write_shard(folder / f"a-{number}.tar", {"1.jpg": jpeg(number)})
    pattern = "a-{0..3}.tar"
    with open_project(source(f"{folder}/{pattern}"), None, ignore) as project:
        scan = scan_into(project, ignore)
        place = project.folder
    assert [picture.path for picture in scan.readable] == ["a-0.tar/1.jpg", "a-1.tar/1.jpg", "a-3.tar/1.jpg"]
    assert [(row.path, row.reason) for row in scan.passed_over] == [("a-2.tar", "no such file or directory")]
    with open_project(place, None, ignore) as project:
        assert len(scan_into(project, ignore).readable) == 3
    with pytest.raises(BadInput, match="is for the shards"):
        open_project(folder, None, ignore)
    assert shard_names("a-[01].tar", folder) == ["a-0.tar", "a-1.tar"]


def piped(folder, names="{0..2}"):
    return f"pipe:cat {folder}/a-{names}.tar"


def test_commands_are_run_once_and_their_shards_are_read_like_others(folder, tmp_path):
    for number in range(3):
        write_shard(folder / f"a-{number}.tar", {"1.jpg": jpeg(number), "1.cls": str(number).encode()})
    out, command = tmp_path / "out.dinoviz", f"pipe:echo run >> {tmp_path}/log; cat {folder}/a-{{0..2}}.tar"
    for _ in range(2):
        with open_project(source(command), out, ignore) as project:
            scan = scan_into(project, ignore)
    assert [(picture.path, picture.label) for picture in scan.readable] == [
        (f"a-{number}.tar/1.jpg", str(number)) for number in range(3)
    ]
    assert (tmp_path / "log").read_text().split() == ["run"] * 3
    (out / "cache/shards/a-1.tar").write_bytes(b"half")
    with open_project(source(command), out, ignore) as project:
        assert len(scan_into(project, ignore).readable) == 3
    assert (tmp_path / "log").read_text().split() == ["run"] * 4


def test_a_command_that_fails_is_told_and_the_other_shards_are_used(folder, tmp_path):
    write_shard(folder / "a-0.tar", {"1.jpg": jpeg()})
    told = []
    spool(piped(folder), tmp_path / "spooled", told.append)
    warnings = [message.text for message in told if isinstance(message, Noticed)]
    assert len(warnings) == 2
    assert all("failed with code 1" in text and "No such file" in text for text in warnings)
    assert sorted(path.name for path in (tmp_path / "spooled").iterdir()) == ["a-0.tar", "spooled.json"]
    with pytest.raises(BadInput, match="No shard could be fetched"):
        spool("pipe:true", tmp_path / "none", ignore)


def test_a_project_alone_runs_no_command(folder, tmp_path):
    write_shard(folder / "a-0.tar", {"1.jpg": jpeg()})
    out = tmp_path / "out.dinoviz"
    with open_project(source(piped(folder, "0")), out, ignore) as project:
        scan_into(project, ignore)
    (out / "cache/shards/a-0.tar").unlink()
    moved = out.rename(tmp_path / "moved.dinoviz")
    with Project.at(moved) as project, pytest.raises(BadInput, match="no picture"):
        scan_into(project, ignore)
    assert not (moved / "cache/shards/a-0.tar").exists()


def test_scan_reads_shards_and_says_so_at_the_prompt(folder, capsys):
    write_shard(folder / "a.tar", {"1.jpg": jpeg(1), "1.cls": b"0", "2.jpg": b"damaged", "2.cls": b"1"})
    assert run(["scan", f"{folder}/a.tar", "--json"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert told["unreadable"] == [{"path": "a.tar/2.jpg", "problem": "not a picture"}]
    assert (told["found"], told["readable"]) == (2, 1)


@pytest.mark.slow
def test_a_run_learns_from_shards_what_it_learns_from_loose_files(folder, tmp_path):
    loose = tmp_path / "loose"
    write_photos(loose, 8)
    pictures = [(path.name, path.read_bytes()) for path in sorted(loose.iterdir())]
    write_shard(folder / "0.tar", dict(pictures[:5]))
    write_shard(folder / "1.tar", dict(pictures[5:]))
    asked = {"epochs": "2", "measure_epochs": "0", "workers": "1", "probes": "0", "prepare": "no"}

    def train_both():
        for source_ in (folder, loose):
            assert run(tiny_train(source_, tmp_path / f"{source_.name}.dinoviz", **asked)) == 0

    run_together(1, train_both)
    one, other = (tmp_path / f"{name}.dinoviz/runs/0001/backbone.safetensors" for name in ("data", "loose"))
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_reading_shards_needs_no_torch():
    code = "import engine.shards, engine.sources, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
