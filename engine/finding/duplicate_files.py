"""Groups of copies as they are kept beside the features, and how they change with the threshold.

    sets/0001/
      duplicates.json      the groups, and the likeness of every pair in them

Light on purpose: whoever shows the groups needs nothing that finds them, see `engine.finding.duplicates`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.records import write_record
from engine.sets import FeatureSet

FILE = "duplicates.json"
PAIRS_LISTED = 1000  # of one group; a long chain has many more


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two pictures, by their ids, and how alike they are: cosine of the whitened descriptors, 1 for equal files."""

    first: int
    second: int
    likeness: float
    is_exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One picture of a group, the picture to keep for it (its own id where it is that one) and their likeness."""

    picture: int
    keep: int
    likeness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Pictures that hang together by pairs above the threshold.

    ``members`` begin with the one to keep: the largest picture, and of equal ones that of the lowest id. All that are
    directly alike to it follow. A chain of resemblances, whose ends are unlike, has more to keep, which come after
    them in the same way. ``pairs`` are the likeliest first, at most
    ``PAIRS_LISTED`` of ``n_pairs``.
    """

    members: list[Member]
    pairs: list[Pair]
    n_pairs: int

    @property
    def likeness(self) -> float:
        """That of its likeliest pair."""
        return self.pairs[0].likeness


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """The groups of a set, likeliest first, and how they were told.

    Args:
        made_from: key of the set.
        n_pictures: that were compared: seen, and not left out.
        threshold: likeness from which pictures are copies.
        suggested: the threshold that the set itself suggests.
        reason: of the suggestion.
        whitening: as ``duplicates.Whitening.how``.
        groups: of two pictures or more.
    """

    made_from: str
    n_pictures: int
    threshold: float
    suggested: float
    reason: str
    whitening: Literal["reference", "shrunk", "none"]
    groups: list[Group]


def keep_duplicates(features: FeatureSet, found: Duplicates) -> None:
    """Write the groups into the folder of the set, whose lock is held.

    Raises:
        DiskFull: there is no room.
    """
    write_record(features.folder / FILE, found)


def read_duplicates(features: FeatureSet) -> Duplicates:
    """Return the groups that were found last.

    Raises:
        BadInput: there are none, or they are of other features than the set holds now.
    """
    return features.made(FILE, Duplicates, "list of duplicates", "engine duplicates PROJECT")


def group_of(
    worth: Sequence[int], links: Iterable[tuple[int, int, float]], copies: Mapping[int, Sequence[int]]
) -> Group:
    """Return a group of pictures by their ids; equal files follow the first of them.

    Args:
        worth: pictures in order of worth, of equal files the first only.
        links: two of them and their likeness.
        copies: the other pictures of equal files, by the first one.
    """
    near: dict[int, dict[int, float]] = {one: {} for one in worth}
    pairs = []
    for first, second, likeness in links:
        near[first][second] = near[second][first] = min(likeness, 1.0)
        pairs.append(Pair(first=first, second=second, likeness=round(min(likeness, 1.0), 4), is_exact=False))
    kept_by: dict[int, tuple[int, float]] = {}
    for one in worth:
        if one not in kept_by:
            kept_by[one] = (one, 1.0)
            for other, likeness in near[one].items():
                kept_by.setdefault(other, (one, likeness))
    members = []
    place = {one: i for i, one in enumerate(worth)}
    for one in sorted(worth, key=lambda one: (place[kept_by[one][0]], place[one])):
        keep, likeness = kept_by[one]
        same = copies.get(one, ())
        members += [Member(picture=each, keep=keep, likeness=round(likeness, 4)) for each in (one, *same)]
        pairs += [Pair(first=one, second=each, likeness=1.0, is_exact=True) for each in same]
    pairs.sort(key=lambda pair: (-pair.likeness, not pair.is_exact, pair.first, pair.second))
    return Group(members=members, pairs=pairs[:PAIRS_LISTED], n_pairs=len(pairs))


def in_order(groups: Iterable[Group]) -> list[Group]:
    """Return groups likeliest pair first, equal files before all, then by ids."""
    return sorted(groups, key=lambda group: (-group.likeness, not group.pairs[0].is_exact, group.pairs[0].first))


def regrouped(found: Duplicates, threshold: float, pixels: Mapping[int, int]) -> list[Group]:
    """Return the groups of a higher threshold than they were found with, from the pairs that are kept.

    Args:
        found: with a threshold; nothing below it is known, so a lower one changes nothing.
        threshold: likeness from which pictures are copies. A group of which not all pairs are kept stays as it is
            while it reaches below them.
        pixels: size of each picture by its id; the largest of a group is worth keeping.
    """
    if threshold <= found.threshold:
        return found.groups
    groups: list[Group] = []
    for group in found.groups:
        if group.n_pairs > len(group.pairs) and threshold <= group.pairs[-1].likeness:
            groups.append(group)
        else:
            groups += _parts(group, threshold, pixels)
    return in_order(groups)


def _parts(group: Group, threshold: float, pixels: Mapping[int, int]) -> Iterator[Group]:
    """Yield what of a group still hangs together."""
    links = [(p.first, p.second, p.likeness) for p in group.pairs if not p.is_exact and p.likeness >= threshold]
    copies: dict[int, list[int]] = {}
    for pair in group.pairs:
        if pair.is_exact:
            copies.setdefault(pair.first, []).append(pair.second)
    ids = sorted({one for link in links for one in link[:2]} | set(copies))
    for part in _components(ids, links):
        worth = sorted(part, key=lambda one: (-pixels.get(one, 0), one))
        yield group_of(worth, [link for link in links if link[0] in part], copies)


def _components(ids: Sequence[int], links: Iterable[tuple[int, int, float]]) -> list[set[int]]:
    """Return the pictures that hang together."""
    part_of = {one: {one} for one in ids}
    for first, second, _ in links:
        small, large = sorted((part_of[first], part_of[second]), key=len)
        if small is not large:
            large |= small
            part_of.update(dict.fromkeys(small, large))
    return list({id(part): part for part in part_of.values()}.values())
