"""A progress that remembers the steps it was told of."""

from __future__ import annotations


class ToldSteps:
    """For work in which nothing is compiled."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    def step(self, title: str) -> None:
        self.titles.append(title)

    def compiling(self, title: str, packages: int) -> None:
        raise AssertionError(f"{packages} packages are compiled: {title}")

    def compiled(self, package: str) -> None:
        raise AssertionError(f"{package} was compiled")
