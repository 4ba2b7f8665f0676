import numpy as np
from PySide6.QtCore import QPoint

from dinoviz.views.train.crop_preview import PICTURES, CropPreview, CropSheet, CropsShown, _images, done_to
from dinoviz.views.train.run_plan import crop_fields
from engine.questions import CropDrawn
from engine.recipes import Recipe, settle
from engine.settings import Facts
from tests.dinoviz.desks import made_desk
from tests.dinoviz.projects import scanned
from tests.makers import photo

SERVICE_MS = 60_000
PLAIN = {
    "is_flipped": False,
    "is_jittered": False,
    "is_grey": False,
    "is_blurred": False,
    "is_solarized": False,
}


def drawn(is_large: bool, **changes) -> CropDrawn:
    return CropDrawn(**({"top": 5, "left": 10, "height": 30, "width": 40, "is_large": is_large, **PLAIN} | changes))


def test_what_was_done_to_a_crop_is_told_when_the_mouse_is_over_it(qtbot):
    sheet = CropSheet()
    qtbot.addWidget(sheet)
    sheet.resize(600, sheet.height())
    sheet.show()
    crops = _images(np.stack([photo(i, 48, 48) for i in range(2)]))
    small = _images(np.stack([photo(9, 24, 24)]))
    shown = CropsShown(
        picture=_images(photo(0)[None])[0],
        drawn=(drawn(True), drawn(True, is_flipped=True, is_grey=True), drawn(False)),
        size=(60, 80),
        large=crops,
        small=small,
    )
    sheet.show_crops(shown)
    before = sheet.grab().toImage()
    room, _ = sheet._rooms[1]
    qtbot.mouseMove(sheet, QPoint(round(room.center().x()), round(room.center().y())))
    assert "mirrored, grey" in sheet.toolTip()
    assert sheet.grab().toImage() != before
    assert all(sheet.rect().contains(place.toRect()) for place, _ in sheet._rooms)
    assert done_to(shown.drawn[0]) == "as it is"


def test_crops_come_from_the_engine_and_another_draw_is_another(qtbot, tmp_path):
    project = scanned(tmp_path, 6)
    with made_desk(qtbot) as desk:
        desk.session.open(project)
        qtbot.waitUntil(lambda: len(desk.session.state.table) == 6)
        table = desk.session.state.table
        plan = settle(Recipe.of({"batch": 2, "epochs": 2}), Facts(n_pictures=6))
        preview = CropPreview(desk)
        qtbot.addWidget(preview)
        preview.resize(600, 800)
        preview.show()
        preview.show_plan(plan, [(table.file(int(i)), place) for place, i in enumerate(table.ids_N[:PICTURES])])
        qtbot.waitUntil(lambda: all(sheet.shown for sheet in preview._sheets), timeout=SERVICE_MS)
        first = preview._sheets[0].shown
        assert len(first.large) == 2
        assert len(first.small) == plan.crops.local_crops
        preview.draw_again()
        qtbot.waitUntil(lambda: preview._sheets[0].shown is not first, timeout=SERVICE_MS)
        assert preview._sheets[0].shown.drawn != first.drawn
    assert crop_fields(plan)["global_side"] == plan.crops.global_side
