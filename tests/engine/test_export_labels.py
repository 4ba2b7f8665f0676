import csv
import json

import pytest

from engine.catalogue import formats_of
from engine.commands.scanning import scan_into
from engine.exporting import labels
from engine.project import Project
from engine.terminal import run
from tests.makers import write_photos


@pytest.fixture
def project(tmp_path):
    write_photos(tmp_path / "photos", 6, labels=("ant", "bee"))
    write_photos(tmp_path / "photos" / "loose", 1)
    with Project.at(tmp_path / "photos.dinoviz", pictures=tmp_path / "photos") as project:
        scan_into(project, lambda _message: None)
        yield project


def say(project, what, **after):
    for name, value in after.items():
        number = next(picture.id for picture in project.pictures() if picture.path.endswith(f"{name}.jpg"))
        project.write_marks(project.marks().change(what, {number: value}))


def exported(project, tmp_path, *more):
    out = tmp_path / "labels.csv"
    assert run(["export", "labels", str(project.folder), "--format", "csv", "--out", str(out), "--quiet", *more]) == 0
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_format_of_the_catalogue_has_a_writer():
    assert set(formats_of("labels")) == set(labels.FILES)


def test_corrected_labels_stand_beside_what_the_folders_said(project, tmp_path):
    say(project, "label", p01="ant", p02="=cmd")
    rows = {row["path"]: (row["label"], row["was"]) for row in exported(project, tmp_path)}
    assert rows["bee/p01.jpg"] == ("ant", "bee")
    assert rows["ant/p02.jpg"] == ("'=cmd", "ant")
    assert rows["ant/p04.jpg"] == ("ant", "")
    assert list(rows) == sorted(rows)


def test_only_those_that_were_corrected_where_that_is_asked(project, tmp_path):
    say(project, "label", p01="ant", p03="cat")
    say(project, "hidden", p03=True)
    assert exported(project, tmp_path, "--corrected") == [{"path": "bee/p01.jpg", "label": "ant", "was": "bee"}]


def test_a_file_that_is_there_is_not_replaced_unasked(project, tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("mine")
    command = ["export", "labels", str(project.folder), "--format", "csv", "--out", str(tmp_path / "labels.csv")]
    assert run([*command, "--json"]) == 3
    assert "is there already" in json.loads(capsys.readouterr().out)["error"]
    assert (tmp_path / "labels.csv").read_text() == "mine"
