"""Which of several networks is better by its neighbours, in words, and whether that is more than chance."""

from collections.abc import Sequence

from dinoviz.views.compare.agreement import SURE, Accuracy, Gain, gain
from dinoviz.words import tr

TIP = (
    "Each network tells the label of a picture by its twenty nearest. Counted on the same pictures by both; the error "
    "is what another choice of as many pictures would change. Runs of other seeds differ by more than that."
)


def verdict(found: Sequence[tuple[str, Accuracy]]) -> str:
    """Return which network is better than the next best one, by how much, and whether that is more than chance.

    Args:
        found: name and accuracy of each network of which it is known; nothing is said of less than two.
    """
    if len(found) < 2:
        return ""
    (best, ours), (second, theirs) = sorted(found, key=lambda one: -one[1].share)[:2]
    difference = gain(ours, theirs)
    if difference is None:
        return tr("{best} and {second} were asked about different pictures.", best=best, second=second)
    if difference.is_larger_than_chance:
        return tr(
            "{best} is better than {second}: its neighbours name {points} more of 100 pictures rightly (± {error}, "
            "{n} pictures). That is more than chance.",
            best=best, second=second, **_figures(difference),
        )  # fmt: skip
    return tr(
        "No difference that is more than chance: {best} names {points} more of 100 pictures rightly than {second}, but "
        "on {n} pictures that may be {error} more or less.",
        best=best, second=second, **_figures(difference),
    )  # fmt: skip


def _figures(difference: Gain) -> dict[str, object]:
    return {
        "points": f"{100 * difference.share:.1f}",
        "error": f"{100 * SURE * difference.error:.1f}",
        "n": difference.n,
    }
