import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import TypeAdapter

from engine.arrays import ArrayFile
from engine.exporting.viewers import NO_PICTURE, SPRITE_SIDE, TILE_SIDE
from engine.exporting.writers import EMBEDDINGS
from engine.finding.maps import make_map, settle
from engine.finding.neighbours import LIKENESS, ROWS, TABLE, TableAbout
from engine.terminal import run
from tests.exports import project_with_set


@pytest.fixture
def project(tmp_path):
    return project_with_set(tmp_path)


def export(project, how, out, *more):
    return run(["export", "embeddings", str(project.folder), "--format", how, "--out", str(out), "--quiet", *more])


def write_neighbours(features, k=3):
    """The exact table, as ``engine index`` would leave it."""
    seen = np.flatnonzero(features.is_seen_N)
    unit = features.vectors_ND[seen] / np.linalg.norm(features.vectors_ND[seen], axis=1, keepdims=True)
    likeness = unit @ unit.T - 3 * np.eye(len(seen), dtype=np.float32)
    near = np.argsort(-likeness, axis=1)[:, :k]
    rows_Nk, likeness_Nk = np.full((len(features), k), -1, np.int32), np.zeros((len(features), k), np.float32)
    rows_Nk[seen], likeness_Nk[seen] = seen[near], np.take_along_axis(likeness, near, axis=1)
    for name, array in ((ROWS, rows_Nk), (LIKENESS, likeness_Nk)):
        ArrayFile.create(features.folder / name, array.dtype, (k,)).append(array)
    about = TableAbout(made_from=features.key, method="exact", k=k, recall=1.0)
    (features.folder / TABLE).write_bytes(TypeAdapter(TableAbout).dump_json(about))


def write_pca(features):
    plan, _ = settle("pca", int(features.is_seen_N.sum()), 0)
    return make_map(features, None, plan, lambda _message: None)


def test_tensorboard_reads_what_is_written_for_its_projector(project, tmp_path):
    pytest.importorskip("tensorboard")
    # TensorBoard's own modules warn while they are imported; a process of its own keeps that out of ours.
    assert export(project, "projector", tmp_path / "logs") == 0
    program = """
import json, sys, warnings
warnings.simplefilter("ignore")
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.projector import projector_plugin
from werkzeug.test import Client, EnvironBuilder
import numpy as np
multiplexer = plugin_event_multiplexer.EventMultiplexer()
multiplexer.AddRunsFromDirectory(sys.argv[1])
multiplexer.Reload()
provider = data_provider.MultiplexerDataProvider(multiplexer, sys.argv[1])
plugin = projector_plugin.ProjectorPlugin(
    base_plugin.TBContext(logdir=sys.argv[1], multiplexer=multiplexer, data_provider=provider)
)
def get(route, **query):
    query = {"run": ".", "name": "cls"} | query
    return Client(plugin.get_plugin_apps()[route]).get("/", query_string=query)
info = json.loads(get("/info").data)
tensor = np.frombuffer(get("/tensor").data, np.float32)
sprite = get("/sprite_image")
print(json.dumps({
    "info": info["embeddings"], "tensor": tensor.tolist(), "metadata": get("/metadata").data.decode(),
    "sprite": sprite.mimetype,
}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "logs")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    vectors = np.array(told["tensor"], np.float32).reshape(12, 6)
    assert np.array_equal(vectors, project.features().vectors_ND)
    header, *rows = told["metadata"].splitlines()
    assert header == "path\tlabel"
    assert rows == [f"{picture.path}\t{picture.label}" for picture in project.pictures()]
    assert told["sprite"] == "image/png"
    assert told["info"][0]["sprite"] == {"imagePath": "sprite.png", "singleImageDim": [TILE_SIDE, TILE_SIDE]}


def test_a_single_column_of_metadata_has_no_header(tmp_path):
    project = project_with_set(tmp_path, n=3, labels=())
    assert export(project, "projector", tmp_path / "logs") == 0
    assert (tmp_path / "logs" / "metadata.tsv").read_text().splitlines() == ["p00.jpg", "p01.jpg", "p02.jpg"]


def test_the_sprite_shows_the_pictures_in_the_order_of_the_rows(project, tmp_path):
    export(project, "projector", tmp_path / "logs")
    sprite = np.asarray(Image.open(tmp_path / "logs" / "sprite.png").convert("RGB")).astype(int)
    assert sprite.shape == (4 * TILE_SIDE, 4 * TILE_SIDE, 3)
    for i, picture in enumerate(project.pictures()):
        y, x = i // 4 * TILE_SIDE, i % 4 * TILE_SIDE
        photo = Image.open(project.pictures_folder / picture.path).crop((10, 0, 70, 60))
        wanted = np.asarray(photo.resize((TILE_SIDE, TILE_SIDE), Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(sprite[y : y + TILE_SIDE, x : x + TILE_SIDE] - wanted).mean() < 4


def test_the_sprite_of_very_many_pictures_fits_a_graphics_card():
    for n in (1, 100, 16_384, 16_385, 100_000, 1_000_000):
        in_line = int(np.ceil(np.sqrt(n)))
        side = min(TILE_SIDE, SPRITE_SIDE // in_line)
        assert side >= 8
        assert in_line * side <= SPRITE_SIDE


def test_a_picture_that_is_gone_has_a_grey_tile_and_is_named(project, tmp_path, capsys):
    gone = project.pictures()[5]
    (project.pictures_folder / gone.path).unlink()
    assert export(project, "projector", tmp_path / "logs", "--json") == 4
    assert [row["path"] for row in json.loads(capsys.readouterr().out)["left_out"]] == [gone.path]
    sprite = np.asarray(Image.open(tmp_path / "logs" / "sprite.png"))
    assert (sprite[TILE_SIDE : 2 * TILE_SIDE, TILE_SIDE : 2 * TILE_SIDE] == NO_PICTURE).all()
    assert export(project, "atlas", tmp_path / "a.parquet") == 4
    images = pq.read_table(tmp_path / "a.parquet")["image"].to_pylist()
    assert [i for i, image in enumerate(images) if image is None] == [5]


def test_an_atlas_has_the_map_the_neighbours_and_thumbnails(tmp_path):
    project = project_with_set(tmp_path, unseen=(0, 4))
    features = project.features()
    write_neighbours(features)
    picture_map = write_pca(features)
    assert export(project, "atlas", tmp_path / "a.parquet") == 4
    table = pq.read_table(tmp_path / "a.parquet")
    seen = np.flatnonzero(features.is_seen_N)
    assert np.array_equal(table["projection_x"].to_numpy(), picture_map.positions_N2[seen, 0])
    assert np.array_equal(table["projection_y"].to_numpy(), picture_map.positions_N2[seen, 1])
    unit = features.vectors_ND[seen] / np.linalg.norm(features.vectors_ND[seen], axis=1, keepdims=True)
    for row, near in enumerate(table["neighbors"].to_pylist()):
        assert near["ids"][0] == row and near["distances"][0] == 0.0
        assert np.allclose(near["distances"], 1 - unit[near["ids"]] @ unit[row], atol=1e-6)
        assert len(near["ids"]) == 4
    assert "vector" not in table.column_names
    for image in table["image"].to_pylist():
        thumbnail = Image.open(io.BytesIO(image["bytes"]))
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (80, 60))
        assert image["path"].endswith(".jpg")


def test_an_atlas_of_a_sample_names_only_neighbours_that_are_in_it(project, tmp_path):
    features = project.features()
    write_neighbours(features, k=5)
    assert export(project, "atlas", tmp_path / "a.parquet", "--at-most", "6") == 0
    table = pq.read_table(tmp_path / "a.parquet")
    ids = table["id"].to_pylist()
    everyone = np.array(features.ids_N)
    for row, near in enumerate(table["neighbors"].to_pylist()):
        assert all(0 <= i < 6 for i in near["ids"])
        own = int(np.flatnonzero(everyone == ids[row])[0])
        rows_k = np.load(features.folder / ROWS)[own]
        wanted = [ids.index(everyone[i]) for i in rows_k if everyone[i] in ids]
        assert near["ids"][1:] == wanted


def test_an_atlas_without_a_map_holds_the_vectors_and_says_what_is_missing(project, tmp_path, capsys):
    assert export(project, "atlas", tmp_path / "a.parquet") == 0
    table = pq.read_table(tmp_path / "a.parquet")
    assert np.array_equal(np.stack(table["vector"].to_numpy()), project.features().vectors_ND)
    assert "neighbors" not in table.column_names
    assert "engine index" in capsys.readouterr().err
    assert export(project, "atlas", tmp_path / "b.parquet", "--map", "umap") == 3
    assert not (tmp_path / "b.parquet").exists()


def test_thumbnails_hold_no_position_and_stand_upright(tmp_path):
    project = project_with_set(tmp_path, n=4)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 0.0)
    secret = b"taken by somebody"
    exif[0x013B] = secret.decode()
    for picture in project.pictures():
        path = project.pictures_folder / picture.path
        Image.open(path).save(path, exif=exif)
    assert secret in path.read_bytes()
    for how, out in (("atlas", "a.parquet"), ("projector", "logs")):
        export(project, how, tmp_path / out)
    table = pq.read_table(tmp_path / "a.parquet")
    thumbnail = Image.open(io.BytesIO(table["image"][0].as_py()["bytes"]))
    assert thumbnail.size == (60, 80)
    assert not thumbnail.getexif()
    assert secret not in (tmp_path / "logs" / "sprite.png").read_bytes()


FAKE_FIFTYONE = """
import json, sys, types
told = {"samples": []}
class Dataset:
    def __init__(self, name, persistent): told["name"] = name
    def add_samples(self, samples): told["samples"] = list(samples)
def Sample(**fields): return fields
def Classification(label): return label
brain = types.ModuleType("fiftyone.brain")
def compute(kind):
    def run(dataset, embeddings, brain_key): told[kind] = [list(embeddings.shape), str(embeddings.dtype), brain_key]
    return run
brain.compute_similarity, brain.compute_visualization = compute("similarity"), compute("visualization")
sys.modules["fiftyone.brain"] = brain
import atexit
atexit.register(lambda: print(json.dumps(told)))
"""


def test_the_fiftyone_script_makes_a_sample_of_every_picture(project, tmp_path):
    """With a stand-in for FiftyOne, which brings a database server."""
    project.record([replace(project.pictures()[0], split="train")])
    assert export(project, "fiftyone", tmp_path / "fo") == 0
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "fiftyone.py").write_text(FAKE_FIFTYONE)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "fo" / "import_to_fiftyone.py"), str(project.pictures_folder)],
        env={"PYTHONPATH": str(tmp_path / "stub")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    first = project.pictures()[0]
    assert told["samples"][0] == {
        "filepath": str(project.pictures_folder.resolve() / first.path),
        "tags": ["train"],
        "ground_truth": first.label,
    }
    assert len(told["samples"]) == 12
    assert told["similarity"] == [[12, 6], "float32", "dinoviz"]


def test_more_rows_than_the_viewer_takes_are_warned_of(project, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(EMBEDDINGS, "projector", replace(EMBEDDINGS["projector"], most_rows=10))
    assert export(project, "projector", tmp_path / "logs") == 0
    assert "--at-most 10" in capsys.readouterr().err
