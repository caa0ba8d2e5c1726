"""Text from outside on its way to a person."""

from __future__ import annotations

LONGEST = 4096  # characters of a sentence; what others say in it may be of any length


def printable(text: str) -> str:
    """One line whatever is in it: nothing from outside may move a terminal's cursor or end a line of ours."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else " " if each in "\n\r\t" else "?" for each in text)


def sentence(text: str) -> str:
    """One line of at most LONGEST characters."""
    return printable(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")
