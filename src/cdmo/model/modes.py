"""Whether CDMO may switch the MIG mode of a node's GPUs by itself."""

from __future__ import annotations

from enum import StrEnum


class ModePolicy(StrEnum):
    """The values of the agent's `--mig-mode` and of the Node's annotation `cdmo.clear.ml/mig-mode`."""

    MANUAL = "manual"  # MIG mode is an administrator's: a GPU without it stays whole and is left alone
    WHEN_IDLE = "when-idle"  # switched on where nothing uses the GPU and no reset is needed: Hopper and later
    WITH_RESET = "with-reset"  # also where the GPU has to be reset for it: Ampere


def policy_of(annotation: str, default: ModePolicy) -> ModePolicy:
    """What holds for a Node; a word that is none of the policies' means that nothing is switched."""
    if not annotation:
        return default
    return ModePolicy(annotation) if annotation in frozenset(ModePolicy) else ModePolicy.MANUAL
