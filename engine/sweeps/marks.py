"""The columns by which the papers tell methods apart, read off the settings of a run.

Sources: DINO tab. 7, 14 and 15, fig. 6.
"""

from collections.abc import Callable, Mapping

from engine.settings import Value

YES, NO = "✓", "✗"
NOTHING = "-"
LOSSES: dict[str, str] = {"byol": "MSE", "moco": "INCE", "swav": "CE", "supervised": "CE"}
"""Loss of the objectives that have one alone: mean squared error, InfoNCE, cross-entropy; their heads have BN."""
CENTRINGS = {"ema": "centring", "sinkhorn": "Sinkhorn-Knopp", "batch_softmax": "softmax (batch)", "none": NOTHING}
TEACHERS = {
    "average": "momentum",
    "copy": "student copy",
    "previous_iteration": "previous iteration",
    "previous_epoch": "previous epoch",
}
MOMENTUM_METHODS = ("byol", "moco")


def _yes(is_so: bool) -> str:
    return YES if is_so else NO


def _is_of_dino(values: Mapping[str, Value]) -> bool:
    """Tell whether teacher and student compare answers: DINO and what grew out of it."""
    return str(values["objective"]) not in LOSSES


def _teacher(values: Mapping[str, Value]) -> str:
    objective = str(values["objective"])
    if _is_of_dino(values):
        return TEACHERS[str(values["teacher_follows"])]
    return TEACHERS["average"] if objective in MOMENTUM_METHODS else TEACHERS["copy"]


def _operation(values: Mapping[str, Value]) -> str:
    if _is_of_dino(values):
        return CENTRINGS[str(values["centring"])]
    return CENTRINGS["sinkhorn"] if values["objective"] == "swav" else NOTHING


def _loss(values: Mapping[str, Value]) -> str:
    if _is_of_dino(values):
        return "MSE" if values["dino_loss"] == "mse" else "CE"
    return LOSSES[str(values["objective"])]


MARKS: dict[str, Callable[[Mapping[str, Value]], str]] = {
    "Mom.": lambda values: _yes(_teacher(values) == TEACHERS["average"]),
    "SK": lambda values: _yes(_operation(values) == CENTRINGS["sinkhorn"]),
    "MC": lambda values: _yes(int(values["local_crops"]) > 0),
    "Loss": _loss,
    "Pred.": lambda values: _yes(values["objective"] == "byol" or (_is_of_dino(values) and bool(values["predictor"]))),
    "Center.": lambda values: _yes(_operation(values) == CENTRINGS["ema"]),
    "BN": lambda values: _yes(not _is_of_dino(values) or values["head_norm"] == "batch"),
    "Operation": _operation,
    "Teacher": _teacher,
    "Network": lambda values: str(values["model"]),
}
"""Each column by its heading: momentum teacher, Sinkhorn-Knopp, multi-crop, loss, predictor, centring, batch norm …"""


def cell(column: str, values: Mapping[str, Value]) -> str:
    """Return what a column says of a run: a mark, or the value of a field."""
    if column in MARKS:
        return MARKS[column](values)
    value = values[column]
    return _yes(value) if isinstance(value, bool) else str(value)
