"""What is exported from Look is what is on the screen: the command takes the arguments, and they say the same."""

from pathlib import Path

import pytest
from PySide6.QtCore import QPointF
from PySide6.QtGui import QColor, QImage

from dinoviz.choices import LookChoices
from dinoviz.views.look.export import LookExport, export_arguments
from dinoviz.views.look.match_lines import still_pair
from engine.catalogue import formats_of
from engine.commands.export import parser
from tests.dinoviz.desks import made_desk
from tests.dinoviz.projects import scanned

PROJECT, OUT, NAMES = Path("p.dinoviz"), Path("out"), Path("names.txt")


def parsed(what, form, choices, *, names=None, patch=None, has_edits=False):
    argv = export_arguments(
        what,
        form,
        OUT,
        PROJECT,
        names,
        model="bundled",
        side=240,
        choices=choices,
        patch=patch,
        has_edits=has_edits,
    )
    assert argv[0] == "export"
    return parser().parse_args(argv[1:])


@pytest.mark.parametrize("form", formats_of("masks"))
def test_masks_are_those_on_the_screen(form):
    choices = LookChoices(shows="mask", keep=0.45, smallest=7, layer=3)
    asked = parsed("masks", form, choices, names=NAMES, has_edits=True)
    assert (asked.keep, asked.smallest, asked.layer, asked.side) == (0.45, 7, 3, 240)
    assert (asked.head, asked.query, asked.list, asked.edited) == ("mean", "cls", NAMES, True)
    assert asked.pictures == [PROJECT]


@pytest.mark.parametrize(
    ("choices", "head"),
    [
        (LookChoices(heads=(2,)), 2),
        (LookChoices(is_union=True), "union"),
        (LookChoices(heads=(0, 2)), "mean"),
        (LookChoices(heads=(1,), is_union=True), 1),
    ],
)
def test_head_is_the_chosen_one(choices, head):
    assert parsed("masks", "png", choices).head == head


def test_patch_looks_only_where_it_was_chosen_to():
    assert parsed("masks", "png", LookChoices(query="patch"), patch=(3, 4)).query == (3, 4)
    assert parsed("masks", "png", LookChoices(), patch=(3, 4)).query == "cls"


@pytest.mark.parametrize("form", formats_of("attention"))
def test_attention_is_that_of_the_chosen_heads(form):
    asked = parsed("attention", form, LookChoices(heads=(0, 2)))
    assert asked.heads == (0, 2)
    assert asked.smooth == (form == "overlay")
    assert parsed("attention", form, LookChoices()).heads is None


def test_two_pictures_of_other_sizes_are_saved_at_one_height_with_lines_between_them():
    first, second = QImage(400, 300, QImage.Format.Format_RGB32), QImage(100, 100, QImage.Format.Format_RGB32)
    first.fill(QColor("white"))
    second.fill(QColor("white"))
    made = still_pair(first, second, [(QPointF(200, 150), QPointF(50, 50), QColor("red"))])
    assert made.height() == 300
    assert made.width() == 400 + 300 + 3
    for x in (250, 401, 500):
        colour = made.pixelColor(x, 150)
        assert colour.red() > 150 > colour.green()
    assert made.pixelColor(250, 20).name() == "#ffffff"


def test_an_export_is_of_the_project_it_was_asked_for_in(qtbot, tmp_path):
    project = scanned(tmp_path, 3)
    with made_desk(qtbot) as desk:
        desk.session.open(project)
        qtbot.waitUntil(lambda: len(desk.session.state.shown) == 3)
        desk.session.select([1, 2])
        form = LookExport(desk, lambda: None, lambda: 240)
        qtbot.addWidget(form)
        asked = []
        form._with_names(asked.append)
        desk.session.close()
        qtbot.waitUntil(lambda: len(asked) == 1)
    assert asked[0][:3] == ["export", "masks", str(project)]
    assert len(Path(asked[0][asked[0].index("--list") + 1]).read_text().splitlines()) == 2
