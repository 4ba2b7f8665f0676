"""Keeps fine-tuning from doing harm: is a backbone still as good as the one the run started from, and what follows.

Pure: readings of the features in, decisions out. `gauge` takes the readings, `train` keeps and restores the weights.

One score says how good the features are, 1 as at the start and higher for better:

* where at least `LEAST_ASKED` pictures with labels can be asked about, 1 + k-NN accuracy now - k-NN accuracy then;
* where not, the effective rank of the features now / then (RankMe, Garrido et al. 2023: it goes with accuracy, without
  labels), lowered once the neighbours each picture had at the start are mostly gone: few of them left means that what
  the weights knew is overwritten, and features of noise have a high rank too.

Measured with the bundled backbone on 2,062 hands showing digits whose labels only judged, five learning rates, three
measurements each: whenever the rank was above that of the start, so was the k-NN accuracy, and 37 % of the neighbours
or more were left; whenever it was below, so was the accuracy, and 18 % or fewer were left.

Source: users whose features became worse with every step from the released weights: facebookresearch/dinov2#204
(20-NN accuracy of 80 % to 10 % in 20,000 pictures), dino#207, dino#284. What follows from it is ours.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

LEAST_ASKED = 25  # pictures asked about: fewer tell accuracies apart by 0.1 at best
NEIGHBOURS_FLOOR = 0.3  # between the 37 % where no harm was done and the 18 % where it was, see above
RANK_NOISE = 0.06  # standard error x sqrt(pictures) of the ratio of ranks, over draws of 30 - 1,000 of those hands
RANK_DRIFT = 0.005  # between two looks at weights that do good the ratio moves by as much, however many the pictures
FAR_BELOW_BEST = 3.0  # tolerances: more than chance was lost, though the features are as good as at the start
RATE_CUT = 0.5
ADDED_RIGHT, ADDED_ASKED = 2, 4  # Agresti and Coull 1998: an error above 0 where all answers are right, or none

Verdict = Literal["best", "go_on", "roll_back", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the gauge read off the features at one step.

    Attributes:
        n_pictures: pictures that were looked at.
        n_asked: those with labels that were asked about; 0 where there are no labels.
        knn: accuracy of the weighted 20-NN classifier, 0 to 1; 0 without labels.
        effective_rank: of the features of all pictures at length 1, 1 and up; nan when they are not finite.
        neighbours_of_start: share of each picture's neighbours that it had at step 0 too, from 0, as many as chance
            gives, to 1.
    """

    n_pictures: int
    n_asked: int
    knn: float
    effective_rank: float
    neighbours_of_start: float

    @property
    def has_labels(self) -> bool:
        """Whether accuracy is what counts."""
        return self.n_asked >= LEAST_ASKED


def score_of(now: Reading, start: Reading) -> float:
    """Return how good the features are beside those of the start, 1 when as good; nan when they are not finite."""
    if math.isnan(now.effective_rank):
        return math.nan
    if start.has_labels:
        return 1.0 + (now.knn - start.knn)
    left = min(1.0, now.neighbours_of_start / NEIGHBOURS_FLOOR)
    return now.effective_rank / start.effective_rank * left


def tolerance_of(start: Reading) -> float:
    """Return one standard error of the score, from the number of pictures it is measured on: less is no harm.

    With labels that of a share of right answers. As the same pictures are asked about each time, chance does less
    than that to a difference of two measurements.
    """
    if not start.has_labels:
        return max(RANK_DRIFT, RANK_NOISE / math.sqrt(start.n_pictures))
    asked = start.n_asked + ADDED_ASKED
    share = (start.knn * start.n_asked + ADDED_RIGHT) / asked
    return math.sqrt(share * (1.0 - share) / asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What the guard knows. All of it goes into the checkpoints: a run that is taken up again decides the same.

    Attributes:
        start: the reading at step 0.
        best: that with the highest score.
        best_step: the step whose weights it belongs to.
        rollbacks: how often the run went back to the best.
        has_ended: whether the guard ended the run.
    """

    start: Reading
    best: Reading
    best_step: int = 0
    rollbacks: int = 0
    has_ended: bool = False

    @classmethod
    def from_start(cls, start: Reading, step: int = 0) -> "Watch":
        """Return what is known before the first step: nothing is better than the start yet."""
        return cls(start=start, best=start, best_step=step)

    @property
    def rate_factor(self) -> float:
        """What the learning rate is multiplied by."""
        return RATE_CUT**self.rollbacks

    @property
    def best_score(self) -> float:
        """The highest score so far."""
        return score_of(self.best, self.start)

    @property
    def has_gained(self) -> bool:
        """Whether anything was better than the start."""
        return self.best_score > 1.0

    @property
    def least(self) -> float:
        """The lowest score that is no harm: a tolerance below the start's, three below the best's."""
        tolerance = tolerance_of(self.start)
        return max(1.0 - tolerance, self.best_score - FAR_BELOW_BEST * tolerance)

    def judge(self, now: Reading, step: int, *, most_rollbacks: int) -> "tuple[Verdict, Watch]":
        """Return what follows from a reading, and what is known then."""
        score = score_of(now, self.start)
        if not score >= self.least:
            return self.harmed(most_rollbacks=most_rollbacks)
        if score > self.best_score:
            return "best", replace(self, best=now, best_step=step)
        return "go_on", self

    def harmed(self, *, most_rollbacks: int) -> "tuple[Verdict, Watch]":
        """Return what follows from harm: back to the best with half the rate, or the end after so many times."""
        if self.rollbacks >= most_rollbacks:
            return "end", replace(self, has_ended=True)
        return "roll_back", replace(self, rollbacks=self.rollbacks + 1)

    def moved_to(self, step: int) -> "Watch":
        """Return the same with the weights of a later step as the best: only heads have learnt since."""
        return replace(self, best_step=step)

    def as_numbers(self) -> dict[str, float]:
        """Return everything as numbers by name."""
        readings = {"start": self.start, "best": self.best}
        numbers = {f"{of}_{name}": value for of, reading in readings.items() for name, value in asdict(reading).items()}
        own = {name: getattr(self, name) for name in ("best_step", "rollbacks", "has_ended")}
        return {name: float(value) for name, value in (numbers | own).items()}

    @classmethod
    def of_numbers(cls, numbers: Mapping[str, float]) -> "Watch":
        """Return what `as_numbers` was called on."""
        return cls(
            start=_reading("start", numbers),
            best=_reading("best", numbers),
            best_step=int(numbers["best_step"]),
            rollbacks=int(numbers["rollbacks"]),
            has_ended=bool(numbers["has_ended"]),
        )

    def in_short(self, reading: Reading) -> str:
        """Return the number that counts, by its name."""
        if self.start.has_labels:
            return f"k-NN {reading.knn:.3f}"
        rank = f"effective rank {reading.effective_rank:.1f}"
        if reading.neighbours_of_start >= NEIGHBOURS_FLOOR:
            return rank
        return f"{rank} with {100 * reading.neighbours_of_start:.0f} % of the neighbours of the start"

    def in_words(self) -> str:
        """Return what fine-tuning did: before and after, when it was best, how often it went back."""
        times = f"{self.rollbacks} rollback{'' if self.rollbacks == 1 else 's'}"
        ended = f"{times}, then ended" if self.has_ended else times
        before, after = self.in_short(self.start), self.in_short(self.best)
        if not self.has_gained:
            return f"{before}: nothing was better than the weights it started from, which are kept ({ended})"
        chance = ", which may be chance" if self.best_score - 1.0 < tolerance_of(self.start) else ""
        number = after.removeprefix(before.rpartition(" ")[0] + " ")
        return f"{before} → {number}{chance} (best at step {self.best_step:,}, {ended})"


def _reading(of: str, numbers: Mapping[str, float]) -> Reading:
    return Reading(
        n_pictures=int(numbers[f"{of}_n_pictures"]),
        n_asked=int(numbers[f"{of}_n_asked"]),
        knn=numbers[f"{of}_knn"],
        effective_rank=numbers[f"{of}_effective_rank"],
        neighbours_of_start=numbers[f"{of}_neighbours_of_start"],
    )
