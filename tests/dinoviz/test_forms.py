from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLineEdit

from dinoviz.views.train import forms, run_plan
from dinoviz.views.train.forms import RecipeForm
from dinoviz.views.train.run_plan import Ground, prepared
from engine import recipes
from engine.facts import Machine
from engine.settings import FIELDS, SECTIONS, Settings, setting

CPU = Machine(
    device="cpu", device_name="x", device_memory_bytes=16 << 30, has_bf16=True, cores=2, memory_bytes=16 << 30
)
GROUND = Ground(
    shorter_sides=np.full(300, 224, np.int32), machines=(CPU,), project=Path.cwd(), shape_of=lambda _model: None
)


class Typing:
    """What is typed comes back settled, as in the window."""

    def __init__(self, qtbot) -> None:
        self.texts: dict[str, str] = {}
        self.form = RecipeForm(self.typed)
        qtbot.addWidget(self.form)
        self.form.resize(760, 900)
        self.form.show()
        self.form.show_prepared(self.texts, prepared(self.texts, GROUND))
        qtbot.waitUntil(lambda: len(self.form.rows) == len(FIELDS) - 1)

    def typed(self, name: str, text: str) -> None:
        self.texts = run_plan.with_text(self.texts, name, text)
        self.form.show_prepared(self.texts, prepared(self.texts, GROUND))


@pytest.fixture
def typing(qtbot) -> Typing:
    return Typing(qtbot)


def edit(typing: Typing, name: str) -> QLineEdit:
    control = typing.form.rows[name].control
    assert isinstance(control, QLineEdit)
    return control


def test_what_is_settled_stands_in_its_field_with_the_reason(typing):
    assert edit(typing, "model").placeholderText() == "vit-tiny/8"
    assert "smallest transformer" in typing.form.rows["model"]._reason.text()
    assert typing.form.rows["device"].control.currentText() == "Auto: cpu"


def test_only_what_the_objective_heeds_is_shown(typing):
    row = typing.form.rows["mask_share"]
    assert not row.isVisibleTo(typing.form)
    typing.typed("objective", "dinov2")
    typing.form.search.setText("mask")
    assert row.isVisibleTo(typing.form)
    typing.form.search.clear()
    typing.typed("koleo", "0.3")
    typing.typed("objective", "byol")
    typing.form.search.setText("koleo")
    assert not typing.form.rows["koleo"].isVisibleTo(typing.form)
    settled = prepared(typing.texts, GROUND)
    assert settled.can_start
    assert "koleo" not in settled.recipe.asked
    typing.typed("objective", "dino")
    assert prepared(typing.texts, GROUND).recipe.asked["koleo"] == 0.3


def test_typing_settles_the_others_live_and_giving_back_undoes_it(qtbot, typing):
    before = edit(typing, "warmup_epochs").placeholderText()
    qtbot.keyClicks(edit(typing, "epochs"), "40")
    assert typing.texts == {"epochs": "40"}
    assert edit(typing, "warmup_epochs").placeholderText() == "4" != before
    assert "your choice" in typing.form.rows["epochs"]._reason.text()
    qtbot.mouseClick(typing.form.rows["epochs"]._back, Qt.MouseButton.LeftButton)
    assert typing.texts == {}
    assert edit(typing, "epochs").text() == ""


def test_what_cannot_be_is_refused_below_its_field_and_stays_as_typed(qtbot, typing):
    qtbot.keyClicks(edit(typing, "batch"), "many")
    row = typing.form.rows["batch"]
    assert edit(typing, "batch").text() == "many"
    assert row._problem.isVisible()
    assert "whole number" in row._problem.text()
    edit(typing, "batch").clear()
    assert not row._problem.isVisible()


def test_a_choice_is_made_and_taken_back_by_keys(qtbot, typing):
    control = typing.form.rows["blur"].control
    typing.form.search.setText("blur")
    qtbot.keyClick(control, Qt.Key.Key_End)
    control.activated.emit(control.currentIndex())
    assert typing.texts == {"blur": "off"}
    control.activated.emit(0)
    assert typing.texts == {}


def test_searching_shows_what_is_searched_for_only(qtbot, typing):
    qtbot.keyClicks(typing.form.search, "temperature teacher")
    shown = {name for name, row in typing.form.rows.items() if row.isVisible()}
    assert {"teacher_temperature", "teacher_temperature_start"} <= shown
    assert "epochs" not in shown
    typing.form.search.setText("nothing at all like this")
    assert typing.form._nothing.isVisible()
    typing.form.search.clear()
    assert typing.form.rows["epochs"].isVisible()
    assert not typing.form._nothing.isVisible()


def test_every_control_says_what_it_is(typing):
    for name, row in typing.form.rows.items():
        assert row.control.accessibleName() == run_plan.label_of(name)
        assert FIELDS[name][1].description in row.control.toolTip()


def test_a_new_section_appears_without_a_line_of_code(qtbot, monkeypatch):
    class IbotSettings(Settings):
        """Objective: iBOT."""

        mask_share: float = setting(0.5, says="Share of patches that are hidden.", low=0.0, high=1.0)
        mask_kind: bool = setting(True, says="Hide blocks instead of single patches.")

    sections = {**SECTIONS, "ibot": IbotSettings}
    fields = {**FIELDS, **{name: ("ibot", info) for name, info in IbotSettings.model_fields.items()}}
    for module in (recipes, run_plan, forms):
        monkeypatch.setattr(module, "SECTIONS", sections)
        monkeypatch.setattr(module, "FIELDS", fields)
    form = RecipeForm(lambda *_: None)
    qtbot.addWidget(form)
    form.show()
    qtbot.waitUntil(lambda: "mask_kind" in form.rows)
    assert form.rows["mask_share"].control.accessibleName() == "Mask share"
    assert form.rows["mask_kind"].control.count() == 3
