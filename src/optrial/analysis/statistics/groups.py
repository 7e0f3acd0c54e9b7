"""Groups of optimizers without a shown difference from the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["tie_groups"]


def tie_groups(
    order: Sequence[str], told_apart: Callable[[str, str], bool]
) -> tuple[tuple[str, ...], ...]:
    """Return the maximal groups of names that are undecided against their best member.

    Every name leads a group of itself and the names behind it that are undecided against it; a
    group within another one is left out. The first group is that of the best. Groups may overlap,
    because "undecided" is not transitive.

    Args:
        order: names, best first.
        told_apart: whether two of them differ.
    """
    groups: list[tuple[str, ...]] = []
    for place, leader in enumerate(order):
        ties = [name for name in order[place + 1 :] if not told_apart(leader, name)]
        if not any({leader, *ties} <= set(group) for group in groups):
            groups.append((leader, *ties))
    return tuple(groups)
