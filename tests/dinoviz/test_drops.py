import os
import time
from pathlib import Path

import pytest

from dinoviz.drops import MOST_ASKED, Dropped, Here, Intent, count_pictures, intent_of
from tests.makers import write_photos

JPEG = b"\xff\xd8\xff\xe0" + bytes(60)


@pytest.fixture
def folder(tmp_path):
    write_photos(tmp_path / "holiday", 4, labels=("sea", "hills"))
    return tmp_path / "holiday"


@pytest.fixture
def project(tmp_path, folder):
    made = tmp_path / "holiday.dinoviz"
    made.mkdir()
    (made / "project.sqlite").write_bytes(b"SQLite format 3\0")
    return made


@pytest.fixture
def here(project, folder):
    return Here(place="library", project=project, pictures_folder=folder)


def dropped(*paths: Path, here: Here | None = None) -> Intent:
    return intent_of(Dropped(paths=paths), here or Here())


def stranger(tmp_path: Path, name: str = "new.jpg", content: bytes = JPEG) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def run_of(project: Path, *, is_done: bool = True) -> Path:
    run = project / "runs/0003"
    (run / "checkpoints").mkdir(parents=True)
    (run / "plan.json").write_text("{}")
    if is_done:
        (run / "backbone.safetensors").write_bytes(b"0")
    return run


def test_a_folder_says_how_many_pictures_it_opens(folder):
    intent = dropped(folder)
    assert intent.kind == "open-folder" and intent.paths == (folder,)
    assert intent.sentence == "Open the folder holiday: 4 pictures"
    assert "never changed" in intent.hint


def test_a_folder_that_was_open_before_says_that_its_project_is_there(folder, project):
    assert "project is there" in dropped(folder).hint


def test_one_picture_is_not_called_pictures(tmp_path):
    write_photos(tmp_path / "one", 1)
    assert dropped(tmp_path / "one").sentence.endswith(": 1 picture")


def test_a_folder_without_a_picture_is_refused(tmp_path):
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers/a.pdf").write_bytes(b"%PDF")
    intent = dropped(tmp_path / "papers")
    assert not intent.is_accepted and "no picture" in intent.sentence


def test_the_open_folder_is_looked_through_for_new_pictures(folder, here):
    assert dropped(folder, here=here).kind == "rescan"


def test_another_folder_opens_beside_an_open_project_on_every_place(tmp_path, project, folder):
    write_photos(tmp_path / "other", 2)
    for place in ("library", "find", "map", "look", "train"):
        intent = dropped(tmp_path / "other", here=Here(place=place, project=project, pictures_folder=folder))
        assert intent.kind == "open-folder"


def test_several_folders_are_too_many(folder, tmp_path):
    write_photos(tmp_path / "other", 2)
    intent = dropped(folder, tmp_path / "other")
    assert not intent.is_accepted and "2 folders" in intent.sentence


def test_a_project_opens(project):
    intent = dropped(project)
    assert (intent.kind, intent.sentence, intent.paths) == ("open-project", "Open the project holiday", (project,))


def test_the_catalogue_of_a_project_opens_the_project(project):
    assert dropped(project / "project.sqlite").paths == (project,)


def test_a_project_by_another_name_is_told_by_what_is_in_it(project, tmp_path):
    renamed = project.rename(tmp_path / "kept for later")
    assert dropped(renamed).kind == "open-project"


def test_the_open_project_is_not_opened_again(project, here):
    intent = dropped(project, here=here)
    assert not intent.is_accepted and "open already" in intent.sentence


@pytest.mark.parametrize(
    "name", ["teacher.pth", "model.safetensors", "MODEL.SAFETENSORS", "last.ckpt", "a.pt", "b.bin"]
)
def test_weights_are_imported(tmp_path, name):
    path = stranger(tmp_path, name)
    intent = dropped(path)
    assert intent.kind == "import-weights" and intent.paths == (path,) and name in intent.sentence


def test_several_weights_are_too_many(tmp_path):
    assert not dropped(stranger(tmp_path, "a.pth"), stranger(tmp_path, "b.pth")).is_accepted


def test_a_run_of_the_open_project_is_looked_through(project, here):
    run = run_of(project)
    intent = dropped(run, here=here)
    assert intent.kind == "use-run" and intent.sentence == "Look through the backbone of run 3"


def test_a_run_of_another_project_gives_its_backbone(project):
    run = run_of(project)
    intent = dropped(run)
    assert intent.kind == "import-weights" and intent.paths == (run / "backbone.safetensors",)


def test_a_run_that_has_not_ended_has_no_backbone_to_give(project):
    intent = dropped(run_of(project, is_done=False))
    assert not intent.is_accepted and "no backbone yet" in intent.sentence


def test_the_folder_of_a_published_model_gives_its_weights(tmp_path):
    model = tmp_path / "dinov2-small"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"0")
    intent = dropped(model)
    assert intent.kind == "import-weights" and intent.paths == (model / "model.safetensors",)


def test_a_picture_without_a_project_opens_the_folder_it_is_in(folder):
    intent = dropped(folder / "sea/p00.jpg")
    assert intent.kind == "open-folder" and intent.paths == (folder / "sea",)
    assert intent.sentence == "Open the folder sea, which this picture is in"


def test_pictures_of_several_folders_without_a_project_are_refused(folder):
    assert not dropped(folder / "sea/p00.jpg", folder / "hills/p01.jpg").is_accepted


@pytest.mark.parametrize("place", ["library", "find", "map", "look"])
def test_a_new_picture_is_looked_for(tmp_path, here, place):
    path = stranger(tmp_path)
    intent = dropped(path, here=Here(place=place, project=here.project, pictures_folder=here.pictures_folder))
    assert (intent.kind, intent.sentence) == ("find-like", "Look for pictures like this one")
    assert intent.paths == (path,)


def test_several_new_pictures_are_looked_for_together(tmp_path, here):
    paths = [stranger(tmp_path, f"{i}.jpg") for i in range(3)]
    assert dropped(*paths, here=here).sentence == "Look for pictures like these 3 together"


def test_too_many_new_pictures_open_the_folder_they_are_in(tmp_path, here):
    paths = [stranger(tmp_path, f"{i}.jpg") for i in range(MOST_ASKED + 1)]
    intent = dropped(*paths, here=here)
    assert intent.kind == "open-folder" and intent.paths == (tmp_path,)


def test_own_pictures_are_selected_on_the_library_and_a_query_on_find(here, folder):
    own = folder / "sea/p00.jpg"
    assert dropped(own, here=here).kind == "show-pictures"
    at_find = Here(place="find", project=here.project, pictures_folder=here.pictures_folder)
    assert dropped(own, here=at_find).kind == "find-like"


def test_many_own_pictures_mean_the_folder_that_is_open(here, folder):
    paths = [stranger(folder, f"more-{i}.jpg") for i in range(MOST_ASKED + 1)]
    assert dropped(*paths, here=here).kind == "rescan"


def test_a_picture_without_a_telling_name_is_known_by_its_first_bytes(tmp_path, here):
    assert dropped(stranger(tmp_path, "download"), here=here).kind == "find-like"


def test_empty_files_are_said_to_be_empty(tmp_path, here):
    intent = dropped(stranger(tmp_path, "cut.jpg", b""), here=here)
    assert not intent.is_accepted and "'cut.jpg' is empty" in intent.sentence


def test_empty_files_among_others_are_left_out_and_counted(tmp_path, here):
    good, empty = stranger(tmp_path), stranger(tmp_path, "cut.jpg", b"")
    intent = dropped(good, empty, here=here)
    assert intent.kind == "find-like" and intent.paths == (good,) and "1 other file is left out" in intent.hint


def test_what_is_gone_is_said_to_be_gone(tmp_path):
    intent = dropped(tmp_path / "gone.jpg")
    assert not intent.is_accepted and "not there any more" in intent.sentence


def test_a_broken_link_is_said_to_lead_nowhere(tmp_path):
    link = tmp_path / "link.jpg"
    link.symlink_to(tmp_path / "gone.jpg")
    assert "a link to something that is not there" in dropped(link).sentence


def test_a_link_in_a_circle_is_refused(tmp_path):
    one, other = tmp_path / "a.jpg", tmp_path / "b.jpg"
    one.symlink_to(other)
    other.symlink_to(one)
    assert not dropped(one).is_accepted


def test_a_link_to_a_folder_opens_it(tmp_path, folder):
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert dropped(link).sentence == "Open the folder link: 4 pictures"


def test_a_folder_that_holds_itself_is_counted_once(folder):
    (folder / "again").symlink_to(folder)
    assert count_pictures(folder) == (4, True)


@pytest.mark.parametrize("name", ["notes.txt", "a.pdf", "table.csv", "program.exe", "film.mp4"])
def test_files_of_no_use_are_refused_with_what_is_accepted(tmp_path, name):
    intent = dropped(stranger(tmp_path, name, b"text"))
    assert not intent.is_accepted and name in intent.sentence and "a file of weights" in intent.hint


def test_pictures_and_weights_together_are_refused(tmp_path, here):
    intent = dropped(stranger(tmp_path), stranger(tmp_path, "a.pth"), here=here)
    assert intent.sentence == "These are different things: 1 picture and 1 file of weights."


def test_an_address_is_to_be_downloaded_first():
    intent = intent_of(Dropped(addresses=("https://example.org/cat.jpg",)), Here())
    assert not intent.is_accepted and "never uses the network" in intent.sentence and "Download" in intent.hint


def test_pixels_from_a_browser_are_looked_for_without_their_address(here):
    intent = intent_of(Dropped(addresses=("https://example.org/cat.jpg",), has_image=True), here)
    assert intent.kind == "find-image"


def test_pixels_without_a_project_are_refused():
    intent = intent_of(Dropped(has_image=True), Here())
    assert not intent.is_accepted and "Open a folder" in intent.sentence


def test_text_is_refused():
    assert not intent_of(Dropped(), Here()).is_accepted


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert not dropped(tmp_path / "pipe.jpg").is_accepted


def test_a_name_with_a_null_byte_is_refused():
    assert not dropped(Path("/tmp/a\0.jpg")).is_accepted


def test_names_of_any_bytes_are_taken(tmp_path):
    write_photos(tmp_path / os.fsdecode(b"caf\xe9"), 1)
    assert dropped(tmp_path / os.fsdecode(b"caf\xe9")).kind == "open-folder"


def test_a_folder_that_may_not_be_read_is_not_counted(tmp_path, folder):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    folder.chmod(0)
    assert not dropped(folder).is_accepted
    folder.chmod(0o755)


def test_a_hundred_thousand_files_are_answered_at_once(tmp_path, here):
    paths = tuple(tmp_path / f"{i}.jpg" for i in range(100_000))
    begun = time.perf_counter()
    intent = intent_of(Dropped(paths=paths), here)
    assert time.perf_counter() - begun < 0.5  # 0.1 s where nothing else runs
    assert intent.kind == "open-folder"


def test_counting_ends_after_its_time_and_says_so(tmp_path):
    for i in range(50):
        (tmp_path / f"{i}").mkdir()
        (tmp_path / f"{i}/a.jpg").write_bytes(JPEG)
    n, is_all = count_pictures(tmp_path, for_s=0.0)
    assert not is_all and n < 50


def test_a_whole_disk_is_refused():
    assert not dropped(Path("/")).is_accepted


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"Dear diary,\nnothing happened.\n", "text"),
        ("Grüße ".encode() * 200, "text"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"PK\x03\x04\x14\0", "a ZIP archive"),
    ],
)
def test_a_file_that_is_only_called_a_picture_is_told_by_what_it_is(tmp_path, here, content, what):
    intent = dropped(stranger(tmp_path, "cat.jpg", content), here=here)
    assert not intent.is_accepted
    assert intent.sentence == f"'cat.jpg' is called a picture, but it is {what}."


def test_a_picture_that_may_be_damaged_is_left_to_the_engine_to_judge(tmp_path, here):
    assert dropped(stranger(tmp_path, "cat.jpg", bytes(64)), here=here).kind == "find-like"


def test_of_several_files_those_only_called_pictures_are_left_out(tmp_path, here):
    intent = dropped(stranger(tmp_path), stranger(tmp_path, "notes.png", b"only words"), here=here)
    assert intent.kind == "find-like" and len(intent.paths) == 1
    assert "1 other file is left out" in intent.hint
