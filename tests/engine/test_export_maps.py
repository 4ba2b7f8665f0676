import base64
import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engine.catalogue import formats_of
from engine.exporting import maps
from engine.finding.maps import make_map, settle
from engine.provenance import KEY
from engine.terminal import run
from tests.exports import project_with_set

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def project(tmp_path):
    project = project_with_set(tmp_path, unseen=(3,))
    plan, _ = settle("pca", 11, 0)
    make_map(project.features(), None, plan, lambda _message: None)
    return project


def export(project, how, out, *more):
    command = ["export", "map", str(project.folder), "--method", "pca", "--format", how, "--out", str(out), "--quiet"]
    return run([*command, *more])


def positions(project):
    kept = np.load(project.features().folder / "map-pca.npy")
    return kept[~np.isnan(kept[:, 0])]


def test_every_format_of_the_catalogue_has_a_writer():
    assert set(formats_of("map")) == set(maps.FILES)


def test_tables_hold_every_place_exactly_and_leave_out_what_has_none(project, tmp_path):
    assert export(project, "parquet", tmp_path / "m.parquet") == 4
    assert export(project, "csv", tmp_path / "m.csv") == 4
    table = pq.read_table(tmp_path / "m.parquet")
    assert np.array_equal(np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1), positions(project))
    assert table["path"].to_pylist() == [p.path for i, p in enumerate(project.pictures()) if i != 3]
    about = json.loads(table.schema.metadata[KEY.encode()])
    assert about["map"] == "pca" and about["map_settings"]["seed"] == 0
    with (tmp_path / "m.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert np.array_equal(np.array([[row["x"], row["y"]] for row in rows], np.float32), positions(project))


def test_a_drawing_names_every_picture_and_keeps_the_aspect(project, tmp_path):
    hostile = replace(project.pictures()[0], path='<b a="1">&\x07.jpg', label="a & b")
    pictures = [hostile, *project.pictures()[1:]]
    project._database.execute("UPDATE images SET path = ?, label = ? WHERE id = ?", (hostile.path, hostile.label, 1))
    assert export(project, "svg", tmp_path / "m.svg") == 4
    root = ElementTree.parse(tmp_path / "m.svg").getroot()
    circles = [circle for circle in root.iter(f"{SVG}circle") if circle.find(f"{SVG}title") is not None]
    places = {circle.find(f"{SVG}title").text: (float(circle.get("cx")), float(circle.get("cy"))) for circle in circles}
    wanted = [p.path.replace("\x07", " ") for i, p in enumerate(pictures) if i != 3]
    assert sorted(places) == sorted(wanted)
    drawn, exact = np.array([places[path] for path in wanted]), positions(project)
    scale = np.ptp(drawn, axis=0).max() / np.ptp(exact, axis=0).max()
    offset = drawn - exact * (scale, -scale)
    assert np.ptp(offset, axis=0).max() < 0.3  # two decimals rounded, twice
    assert drawn.min() >= maps.MARGIN - 0.1 and drawn.max() <= maps.SIDE - maps.MARGIN + 0.1
    assert json.loads(root.find(f"{SVG}metadata").text)["map"] == "pca"
    legend = " ".join(text.text for text in root.iter(f"{SVG}text"))
    assert legend == "hat (6) coat (4) a & b (1)"


def test_points_of_one_label_are_one_group_of_one_colour(project, tmp_path):
    export(project, "svg", tmp_path / "m.svg")
    root = ElementTree.parse(tmp_path / "m.svg").getroot()
    groups = {g.find(f"{SVG}desc").text: g for g in root.iter(f"{SVG}g") if g.find(f"{SVG}desc") is not None}
    assert set(groups) == {"coat", "hat"}
    assert len({group.get("fill") for group in groups.values()}) == 2
    for label, group in groups.items():
        assert all(title.text.startswith(f"{label}/") for title in group.iter(f"{SVG}title"))


def test_very_many_points_are_drawn_as_a_picture(project, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "MOST_POINTS", 5)
    assert export(project, "svg", tmp_path / "m.svg") == 4
    root = ElementTree.parse(tmp_path / "m.svg").getroot()
    (image,) = root.iter(f"{SVG}image")
    data = base64.b64decode(image.get("href").removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(data)).size == (int(image.get("width")), int(image.get("height")))


def test_a_picture_of_a_map_says_what_made_it(project, tmp_path):
    assert export(project, "png", tmp_path / "m.png") == 4
    with Image.open(tmp_path / "m.png") as picture:
        assert json.loads(picture.text[KEY])["map"] == "pca"
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 10


def test_a_map_that_is_not_there_is_asked_for(project, tmp_path, capsys):
    command = ["export", "map", str(project.folder), "--format", "csv", "--out", str(tmp_path / "a.csv")]
    assert run(command) == 3
    assert "engine map" in capsys.readouterr().err
    assert not (tmp_path / "a.csv").exists()


def test_one_point_and_equal_points_can_be_drawn():
    for positions_M2 in (np.zeros((1, 2), np.float32), np.ones((5, 2), np.float32)):
        assert (maps.on_paper(positions_M2) == maps.SIDE / 2).all()
