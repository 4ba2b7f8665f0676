"""What goes wrong in a run, in plain words, early, with what to change.

Pure: numbers of the run in, sentences out. A collapse is told by its exact values: the teacher's entropy
near ln K (all answers alike and uniform) or, over all pictures together, near 0 (one prototype for everything).
Sources: DINO §5.3 and fig. 7; facebookresearch/dino#246 and dinov2#407, where users sat at ln K for days.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.protocol import Noticed

FIRST_STEP = 100  # before it every run looks the same
NEAR = 0.99  # share of ln K from which an entropy is as good as uniform
NARROW = 0.05  # share of ln K below which all pictures together use one or two prototypes
SAME_DIRECTION = 0.05  # feature_std: 1 when directions are spread evenly
FEW_AXES = 2.0  # effective rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Ailment:
    """One thing that goes wrong: how it is told and what to do."""

    name: str
    text: str
    hint: str


UNIFORM = Ailment(
    name="uniform collapse",
    text="The teacher gives every picture the same, uniform answer: its entropy {teacher_entropy:.2f} "
    "is at ln K = {ln_k:.2f}, so there is nothing to learn from.",
    hint="Switch on head_norm batch, lower teacher_temperature (of swav: epsilon), or start from a trained backbone "
    "with --init.",
)
ONE_PROTOTYPE = Ailment(
    name="one-prototype collapse",
    text="Nearly all pictures get the same prototype: the answers together have an entropy of {marginal_entropy:.2f} "
    "where {ln_k:.2f} is possible.",
    hint="Raise teacher_temperature, let the centre follow faster (centre_momentum 0.9), or lower the learning rate.",
)
SAME_FEATURES = Ailment(
    name="features alike",
    text="Features of different pictures point the same way (spread {feature_std:.3f}, 1 is even).",
    hint="Switch on koleo 0.1 where the objective has it, use stronger crops (lower scale_split), or start from a "
    "trained backbone with --init.",
)
FEW_DIRECTIONS = Ailment(
    name="few directions",
    text="Features vary along {effective_rank:.1f} directions only.",
    hint="Switch on koleo 0.1 where the objective has it, or take a larger batch; a very uniform folder needs a "
    "trained start, --init.",
)


NOTHING_LEARNT = Ailment(
    name="nothing learnt",
    text="The classifier answers as if it saw no pictures: its loss {cross_entropy:.2f} is that of knowing only how "
    "frequent each class is, {knowing_nothing:.2f}.",
    hint="Raise learning_rate, start from a trained backbone with --init bundled, or check that folders are classes.",
)
AT_CHANCE = Ailment(
    name="accuracy at chance",
    text="Of the pictures held out {accuracy:.0%} are named right; always naming the largest class would reach "
    "{largest_class:.0%}.",
    hint="Check that the folders are classes that can be seen, train longer, or start from --init bundled.",
)


@dataclass(slots=True)
class Health:
    """Watches a run; says each thing once, and again when it came back after it had gone."""

    prototypes: int
    """K; 0 for an objective without answers to choose among."""
    _present: set[str] = field(default_factory=set)

    def look(self, step: int, values: Mapping[str, float]) -> list[Noticed]:
        """Return what is newly wrong at a step."""
        if step < FIRST_STEP:
            return []
        ln_k = math.log(self.prototypes) if self.prototypes else 0.0
        found = {ailment.name: ailment for ailment in ailments(values, ln_k)}
        new = [ailment for name, ailment in found.items() if name not in self._present]
        self._present = set(found)
        return [
            Noticed(level="warning", text=f"{a.name}: {a.text.format(ln_k=ln_k, **values)}", hint=a.hint) for a in new
        ]


def ailments(values: Mapping[str, float], ln_k: float) -> list[Ailment]:
    """Return what is wrong with one look at the teacher and the features; what was not looked at is not."""
    return [
        ailment
        for ailment, is_present in (
            (UNIFORM, values.get("teacher_entropy", -math.inf) > NEAR * ln_k),
            (ONE_PROTOTYPE, values.get("marginal_entropy", math.inf) < NARROW * ln_k),
            (SAME_FEATURES, values.get("feature_std", math.inf) < SAME_DIRECTION),
            (NOTHING_LEARNT, values.get("cross_entropy", -math.inf) > NEAR * values.get("knowing_nothing", math.inf)),
            (AT_CHANCE, values.get("accuracy", math.inf) <= values.get("largest_class", -math.inf)),
            (FEW_DIRECTIONS, values.get("effective_rank", math.inf) < FEW_AXES),
        )
        if is_present
    ]
