"""Devices made or destroyed beside us (nvidia-smi), for which the device plugin must look again."""

from __future__ import annotations

from collections.abc import Mapping

from cdmo.agent.observe import Observation
from cdmo.model.names import is_mig_resource
from cdmo.runtime.clock import Clock

_NOTHING: frozenset[str] = frozenset()


class Disagreement:
    """Where the kubelet's devices and the hardware's differ.

    One reload per difference, and only when it lasts for `lasting` seconds: a plugin that is just starting lists
    nothing either.
    """

    def __init__(self, clock: Clock, lasting: float) -> None:
        self._clock = clock
        self._lasting = lasting
        self._current = _NOTHING
        self._since = 0.0
        self._reloaded_for = _NOTHING

    @property
    def seen(self) -> bool:
        """Whether the last look showed a difference, however short."""
        return bool(self._current)

    def to_reload_for(self, observation: Observation, listed: Mapping[str, frozenset[str]]) -> frozenset[str]:
        """The devices for which the plugin is to enumerate again; none while they agree. `listed`: those that the
        kubelet has, by resource."""
        # A GPU that does not answer would end a plugin that enumerates.
        difference = _NOTHING if observation.hold else observation.disagreement(listed)
        nothing_known = not any(map(is_mig_resource, listed))
        if not difference or (nothing_known and self._reloaded_for == difference):
            self._current = _NOTHING
            if not difference:
                self._reloaded_for = _NOTHING  # the same uuid may come and go by hand once more
            return _NOTHING
        if difference != self._current:
            self._current, self._since = difference, self._clock.monotonic()
            return _NOTHING
        if difference == self._reloaded_for or self._clock.monotonic() - self._since < self._lasting:
            return _NOTHING
        return difference

    def reloaded(self) -> None:
        """The plugin enumerated: not again for the same difference."""
        self._reloaded_for = self._current

    def ended(self) -> None:
        """A change went through: what is seen from now on is new."""
        self._current = _NOTHING
