"""What a place on a card is worth: the rule that decides where a slice goes.

A card's windows are the sets of memory slots that some profile may cover; each is counted once. A window that n busy
slices reach into is worth `weight / 4^n`: whole ones are worth keeping, and one that is spoiled already may as well
be spoiled further. A slice costs what the windows that it touches lose by it, and a little for every slot that stays
free on its GPU, so that GPUs are filled before others are begun. Small windows weigh more than large ones: there are
fewer large ones to lose, but many more pods can use the small.

Idle slices count as free here: they do not keep anybody away. When room is scarce, creating a slice has a price in
worth, and so has destroying an idle one, which could have served the next pod without any change; while there is
plenty, an idle slice is simply reused (`shape.Mode`).

The form and the constants were found by simulation: 100 GPUs, load 1.0, no moves, five mixes (docs/design/0003). It
accepts more than best fit with capability loss, and needs half as many creates. Costs are whole numbers, so that the
same question has the same answer on every machine.
"""

from __future__ import annotations

from cdmo.planner.placement import CardTable, Cut, Layout

_ONE = 1 << 20  # all costs are in millionths of the worth of one whole smallest window, roughly
_SPOILED = 4  # a busy slice in a window leaves a fourth of what it was worth
_STEP = 8  # of a window of twice the slots an eighth less is lost
FREE_SLOT = _ONE * 5 // 64  # for each memory slot that stays free
CREATE = _ONE * 15 // 100
DESTROY = _ONE * 30 // 100  # for each idle slice


class Worth:
    """The worth of one card's windows."""

    def __init__(self, table: CardTable) -> None:
        self._table = table
        masks = sorted({cut.mask for cut in table.cuts.values()})
        smallest = min((mask.bit_count() for mask in masks), default=1)
        self._windows = [(mask, _weight(mask.bit_count() / smallest)) for mask in masks]
        self._touched: dict[int, list[int]] = {
            mask: [number for number, (window, _) in enumerate(self._windows) if window & mask] for mask in masks
        }
        self._drops: dict[Layout, list[int]] = {}

    def loss(self, busy: Layout, cut: Cut) -> int:
        """What a slice costs beside busy ones that it does not overlap."""
        drops = self._drops.get(busy)
        if drops is None:
            drops = self._drops[busy] = self._worked_out(busy)
        free = self._table.free_slots(busy) - cut.profile.size
        return sum([drops[number] for number in self._touched[cut.mask]]) + FREE_SLOT * free

    def _worked_out(self, busy: Layout) -> list[int]:
        """By window what it loses when one more slice reaches into it."""
        masks = [self._table.cuts[each].mask for each in busy]
        found = []
        for window, weight in self._windows:
            spoiled = _SPOILED ** sum([1 for mask in masks if mask & window])
            found.append(weight // spoiled - weight // (spoiled * _SPOILED))
        return found


def _weight(times: float) -> int:
    """The weight of a window of so many times the smallest size. Steps of whole doublings, so no rounding."""
    doublings, size = 0, 1.0
    while size * 2 <= times:
        size *= 2
        doublings += 1
    return _ONE * max(1, _STEP - doublings) // _STEP
