"""Did you mean?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The choice nearest to `word`, ignoring case, dashes and underscores; None when nothing is near."""
    by_folded = {_fold(choice): choice for choice in sorted(choices, reverse=True)}
    folded = _fold(word)
    if folded in by_folded:
        return by_folded[folded]
    near = difflib.get_close_matches(folded, by_folded, n=1, cutoff=cutoff)
    return by_folded[near[0]] if near else None


def did_you_mean(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """`did you mean "x"?` for the nearest choice, or None."""
    near = closest(word, choices, cutoff=cutoff)
    return f'did you mean "{near}"?' if near is not None else None


def one_of(choices: Iterable[str]) -> str:
    """`one of a, b or c`, for messages."""
    names = list(choices)
    if len(names) == 1:
        return names[0]
    return f"one of {', '.join(names[:-1])} or {names[-1]}"


def _fold(word: str) -> str:
    return word.lower().replace("-", "_").replace(" ", "_")
