"""What a card can be cut into, against an independent reading of its table."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pynvml
import pytest
from cdmo_harness.nvml_build import SOURCES

from tests.sim import calls
from tests.sim.conftest import MakeDriver

Placed = tuple[int, int]  # a place in the table's list of profiles, and a start

CARDS = sorted(path.stem.upper() for path in (SOURCES / "cards").glob("*.json") if path.stem != "l40s-48gb")
GEOMETRIES = ("A30-24GB", "A100-SXM4-40GB", "H100-SXM5-80GB", "B200-180GB", "RTX-PRO-6000-BSE")
ENGINES = ("decoders", "encoders", "jpegs", "ofas")


class Rules:
    """The rules of MIG placement, from the card's table alone."""

    def __init__(self, card: dict[str, Any]) -> None:
        self.profiles = card["profiles"]
        self.compute_slices = card["computeSlices"]
        whole = next(each for each in self.profiles if each["size"] == card["memorySlots"])
        self.engines = {name: whole[name] or max(each[name] for each in self.profiles) for name in ENGINES}
        self.placements: list[Placed] = [
            (number, start) for number, each in enumerate(self.profiles) for start in each["starts"]
        ]

    def allows(self, layout: list[Placed]) -> bool:
        chosen = [self.profiles[number] for number, _ in layout]
        slots = [slot for number, start in layout for slot in self._slots(number, start)]
        numbers = [number for number, _ in layout]
        return (
            len(slots) == len(set(slots))
            and sum(each["computeSlices"] for each in chosen) <= self.compute_slices
            and all(numbers.count(number) <= self.profiles[number]["maxInstances"] for number in set(numbers))
            and all(sum(each[name] for each in chosen) <= total for name, total in self.engines.items())
        )

    def _slots(self, number: int, start: int) -> range:
        return range(start, start + self.profiles[number]["size"])

    def complete(self, layout: list[Placed] | None = None, first: int = 0) -> Iterator[list[Placed]]:
        """Every layout to which nothing can be added, once."""
        layout = layout or []
        more = [index for index, each in enumerate(self.placements) if self.allows([*layout, each])]
        if not more:
            yield layout
        for index in more:
            if index >= first:
                yield from self.complete([*layout, self.placements[index]], index + 1)


class Board:
    """The simulated GPU, addressed by the same pairs as the rules."""

    def __init__(self, rules: Rules, handle: Any) -> None:
        self.profiles = rules.profiles
        self.handle = handle

    def put(self, placed: Placed) -> Any:
        profile = self.profiles[placed[0]]
        return calls.create(self.handle, profile["id"], placed[1], profile["size"])

    def fill(self, profile_id: int) -> list[Any]:
        """As many instances of a profile as the driver makes."""
        made: list[Any] = []
        while True:
            try:
                made.append(pynvml.nvmlDeviceCreateGpuInstance(self.handle, profile_id))
            except pynvml.NVMLError_InsufficientResources:
                return made

    def refusal(self, placed: Placed) -> int:
        return calls.code(self.put, placed)


def on_board(make_driver: MakeDriver, monkeypatch: pytest.MonkeyPatch, card: str) -> tuple[Rules, Iterator[Board]]:
    """The rules of a card, and a context with its board: MIG on, no /proc files (they are not looked at)."""
    rules = Rules(calls.card_table(card))
    driver = make_driver(calls.spec(card))

    def boards() -> Iterator[Board]:
        with calls.session(driver):
            monkeypatch.setenv("NVMLSIM_ROOT", "")
            handle = calls.gpu()
            pynvml.nvmlDeviceSetMigMode(handle, 1)
            if not pynvml.nvmlDeviceGetMigMode(handle)[0]:
                driver.reset_gpu(pynvml.nvmlDeviceGetUUID(handle))
            yield Board(rules, handle)

    return rules, boards()


@pytest.mark.parametrize("card", CARDS)
def test_every_complete_layout_is_built_in_any_order_and_takes_no_more(
    make_driver: MakeDriver, monkeypatch: pytest.MonkeyPatch, card: str
) -> None:
    rules, boards = on_board(make_driver, monkeypatch, card)
    shuffle = random.Random(card).shuffle
    built = 0
    for board in boards:
        for layout in rules.complete():
            shuffle(layout)
            instances = [board.put(placed) for placed in layout]
            assert all(board.refusal(placed) == calls.NO_ROOM for placed in rules.placements), layout
            shuffle(instances)
            for instance in instances:
                pynvml.nvmlGpuInstanceDestroy(instance)
            built += 1
    assert built > 10


@pytest.mark.parametrize("card", GEOMETRIES)
def test_from_every_legal_layout_exactly_the_legal_placements_can_be_added(
    make_driver: MakeDriver, monkeypatch: pytest.MonkeyPatch, card: str
) -> None:
    rules, boards = on_board(make_driver, monkeypatch, card)
    layout: list[Placed] = []

    def walk(board: Board, first: int) -> None:
        for index, placed in enumerate(rules.placements):
            if not rules.allows([*layout, placed]):
                assert board.refusal(placed) == calls.NO_ROOM, (layout, placed)
                continue
            instance = board.put(placed)
            if index >= first:
                layout.append(placed)
                walk(board, index + 1)
                layout.pop()
            pynvml.nvmlGpuInstanceDestroy(instance)

    for board in boards:
        walk(board, 0)


@pytest.mark.parametrize("card", GEOMETRIES)
def test_remaining_capacity_is_what_can_still_be_created(
    make_driver: MakeDriver, monkeypatch: pytest.MonkeyPatch, card: str
) -> None:
    rules, boards = on_board(make_driver, monkeypatch, card)
    layouts = random.Random(card).sample(list(rules.complete()), 12)
    for board in boards:
        for layout in layouts:
            instances = [board.put(placed) for placed in layout[: len(layout) // 2]]
            for profile in rules.profiles:
                said = pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(board.handle, profile["id"])
                more = board.fill(profile["id"])
                assert len(more) == said, (layout, profile["name"])
                for instance in more:
                    pynvml.nvmlGpuInstanceDestroy(instance)
            for instance in instances:
                pynvml.nvmlGpuInstanceDestroy(instance)


def test_the_drivers_own_choice_depends_on_the_order_of_creation(nvml: object) -> None:
    handle = calls.mig_gpu()
    for profile_id in (9, 19, 14, 19):
        pynvml.nvmlDeviceCreateGpuInstance(handle, profile_id)


def test_small_instances_first_leave_no_room_for_a_large_one(nvml: object) -> None:
    handle = calls.mig_gpu()
    for profile_id in (19, 19, 14):
        pynvml.nvmlDeviceCreateGpuInstance(handle, profile_id)
    assert calls.code(pynvml.nvmlDeviceCreateGpuInstance, handle, 9) == calls.NO_ROOM
