"""Case operators: what they write, and that they lose nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf_codec.lm.data.case import fold_case, unfold_case


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("", ""),
        ("small only, 12.", "small only, 12."),
        ("The end. The END", "↑the end.↑ the⇑ end"),
        ("I am A. B", "↑i am↑ a.↑ b"),
        ("  Two", " ↑ two"),
        ("\nLine", "\n↑line"),
        ("McDonald HTMLParser DVDs iPhone", "↑mc↑donald⇑ html↑parser⇑ dv↑ds i↑phone"),
        ("Éa ÀÉ Ωm ЖЩ", "↑éa⇑ àé↑ ωm⇑ жщ"),
        ("ß İ \u212a ǅ \U00010400", "ß İ \u212a ǅ \U00010400"),  # not one to one, or far away
        ("ΟΔΟΣ Σας", "⇑οδοσ↑ σας"),
        ("A↑B", "↑a!↑↑b"),
        ("!⇑!", "!!!⇑!!"),
    ],
)
def test_what_is_written(text: str, folded: str) -> None:
    def marks(readable: str) -> bytes:
        return readable.translate({ord("↑"): 0x11, ord("⇑"): 0x12, ord("!"): 0x13}).encode()

    assert fold_case(marks(text)) == marks(folded)
    assert unfold_case(marks(folded)) == marks(text)


def test_every_character_comes_back() -> None:
    for start in range(0, 0x110000, 0x8000):
        characters = [chr(i) for i in range(start, start + 0x8000) if not 0xD800 <= i < 0xE000]
        for separator in ("", " A"):
            text = separator.join(characters).encode()
            assert unfold_case(fold_case(text)) == text


@given(st.text(alphabet="aAbB éÉßẞ\x11\x12\x13 \n1İ\u0131\u017f\u212a") | st.text())
def test_any_text_comes_back(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    assert unfold_case(fold_case(data)) == data


@given(st.binary())
def test_any_bytes_come_back(data: bytes) -> None:
    assert unfold_case(fold_case(data)) == data
