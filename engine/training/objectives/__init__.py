"""What a network can learn by; to add one: a row in `catalogue.OBJECTIVES` and its class here."""

from engine.catalogue import ObjectiveName
from engine.training.objectives.byol import Byol
from engine.training.objectives.distillation import Distillation
from engine.training.objectives.moco import Moco
from engine.training.objectives.objective import Objective
from engine.training.objectives.self_distillation import SelfDistillation
from engine.training.objectives.supervised import Supervised
from engine.training.objectives.swav import Swav

OBJECTIVES: dict[ObjectiveName, type[Objective]] = {
    "dino": SelfDistillation,
    "dinov2": SelfDistillation,
    "ibot": SelfDistillation,
    "distillation": Distillation,
    "supervised": Supervised,
    "byol": Byol,
    "moco": Moco,
    "swav": Swav,
}
"""What ``run.objective`` may name."""
