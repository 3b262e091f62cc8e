"""Case operators: capital letters as marks before small ones, and back, for any bytes.

"The HTML of McDonald" becomes "↑the⇑ html of↑ mc↑donald", so that a vocabulary need not
have a word twice.  ↑ (U+0011) raises one letter, ⇑ (U+0012) a run of two or more; a mark
stands before the blank that precedes its word, so that "▁the" is one piece wherever it
stands.  A real character of these is written behind U+0013.  Letters are those of the
basic plane whose case is one character both ways; all others are left as they are.
"""

from __future__ import annotations

import re
from functools import lru_cache

RAISE, RAISE_RUN, LITERAL = "\x11", "\x12", "\x13"

VERSION = 1
"""Of the operators, for manifests."""


def fold_case(data: bytes) -> bytes:
    """The text with marks; :func:`unfold_case` gives ``data`` back."""
    smaller, _ = _pairs()

    def mark(match: re.Match[str]) -> str:
        literal, blank, letters = match.groups()
        if literal:
            return LITERAL + str(literal)
        return (RAISE if len(letters) == 1 else RAISE_RUN) + blank + letters.translate(smaller)

    return _patterns()[0].sub(mark, _text(data)).encode("utf-8", "surrogateescape")


def unfold_case(data: bytes) -> bytes:
    """What :func:`fold_case` was given."""
    _, larger = _pairs()

    def act(match: re.Match[str]) -> str:
        literal, *blanks_and_letters = match.groups("")
        return literal + "".join(blanks_and_letters).translate(larger)

    return _patterns()[1].sub(act, _text(data)).encode("utf-8", "surrogateescape")


@lru_cache(maxsize=1)
def _pairs() -> tuple[dict[int, int], dict[int, int]]:
    """Large letter -> small one, and back.

    Letter by letter: ``str.lower`` of a word looks at what stands around a sigma.
    """
    smaller = {
        ord(upper): ord(lower)
        for upper in map(chr, range(0x10000))  # beyond, a class of characters is slow
        if len(lower := upper.lower()) == 1 and lower != upper and lower.upper() == upper
    }
    return smaller, {small: big for big, small in smaller.items()}


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What to mark, and marks with what they act on."""
    big, small = (f"[{re.escape(''.join(map(chr, letters)))}]" for letters in _pairs())
    there = re.compile(f"([{RAISE}{RAISE_RUN}{LITERAL}])|( ?)({big}{{2,}}(?!{small})|{big})")
    back = re.compile(f"{LITERAL}(.)|{RAISE_RUN}( ?)({small}+)|{RAISE}( ?)({small})", re.DOTALL)
    return there, back


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
