"""Which images belong together: what shares a name (patient, lesion, pixels) is one group, and so is whatever that links."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

# What tables write where nobody knows the patient. Taken as a name it would make one patient of all strangers.
_NOBODY = frozenset({"", "nan", "na", "n/a", "<na>", "none", "null", "nil", "unknown", "-", "?"})


def owner(cell: str) -> str:
    """The name of a patient, lesion or other owner in a cell of a table; empty where it is a word for none."""
    return "" if cell.strip().lower() in _NOBODY else cell.strip()


def join_groups(links: Iterable[Sequence[str]], order: Callable[[str], Any] = str) -> dict[str, str]:
    """name -> the least name, by `order`, of its connected component; links: sequences of names that belong together."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for link in links:
        for name in link:
            first, second = sorted((root(link[0]), root(name)), key=order)
            parent[second] = first
    return {name: root(name) for name in parent}
