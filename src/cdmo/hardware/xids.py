"""Which XID means what for the slices of a GPU, as data.

An XID is a number in the kernel's log by which NVIDIA's driver reports an error. What is to be done about each stands
in NVIDIA's XID catalog (docs.nvidia.com/deploy/xid-errors, "Resolution Bucket (Immediate Action)", for Ampere and
later); its words become three here:

    IGNORE                                            nobody
    RESTART_APP: the error is the one application's   the slice it ran on; the whole GPU when the driver names none
    RESET_GPU, RESTART_BM (reboot), links, power      the whole GPU

The six that NVIDIA's device plugin takes for the application's own (internal/rm/health.go) are nobody's as well. Of a
number that is not listed nothing is known: it is taken as the plugin takes it, for the slice or else for the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reach(StrEnum):
    """Who is not to be used after an XID."""

    NOBODY = "nobody"
    SLICE = "the slice"
    GPU = "the GPU"


@dataclass(frozen=True, slots=True)
class Xid:
    """One number, or several in a row with one meaning."""

    first: int
    last: int
    reach: Reach
    meaning: str


def _one(number: int, reach: Reach, meaning: str) -> Xid:
    return Xid(number, number, reach, meaning)


PLUGIN_IGNORES = frozenset({13, 31, 43, 45, 68, 109})

TABLE: tuple[Xid, ...] = (
    _one(8, Reach.SLICE, "the GPU stopped working on the application's commands"),
    _one(11, Reach.SLICE, "invalid or corrupted commands"),
    _one(13, Reach.NOBODY, "graphics engine exception: the application's own"),
    _one(14, Reach.NOBODY, "a test message of the driver"),
    _one(25, Reach.SLICE, "invalid or illegal commands"),
    _one(31, Reach.NOBODY, "memory page fault: the application's own"),
    _one(32, Reach.SLICE, "corrupted push buffer stream"),
    _one(37, Reach.NOBODY, "firmware did not know a command"),
    _one(38, Reach.NOBODY, "firmware watchdog"),
    Xid(39, 41, Reach.SLICE, "copy engine exception"),
    _one(43, Reach.NOBODY, "the application was stopped"),
    _one(44, Reach.NOBODY, "fault during a context switch"),
    _one(45, Reach.NOBODY, "clean-up after another error"),
    _one(46, Reach.GPU, "the GPU stopped processing"),
    _one(48, Reach.GPU, "double-bit ECC error"),
    _one(54, Reach.GPU, "auxiliary power is not connected"),
    _one(60, Reach.SLICE, "video processor exception"),
    _one(62, Reach.GPU, "the power management unit halted"),
    _one(63, Reach.NOBODY, "a memory row is going to be remapped at the next reset; work can go on until then"),
    _one(64, Reach.GPU, "a memory row could not be remapped"),
    _one(66, Reach.NOBODY, "illegal register access by firmware"),
    _one(67, Reach.NOBODY, "verification violation in firmware"),
    _one(68, Reach.NOBODY, "video decoder exception: the application's own"),
    _one(69, Reach.SLICE, "graphics engine class error"),
    Xid(70, 72, Reach.SLICE, "copy engine exception"),
    _one(74, Reach.GPU, "NVLink error"),
    Xid(75, 77, Reach.SLICE, "copy engine exception"),
    _one(79, Reach.GPU, "the GPU fell off the bus"),
    _one(80, Reach.SLICE, "corrupted data sent to the GPU"),
    _one(82, Reach.SLICE, "JPEG engine exception"),
    Xid(83, 84, Reach.SLICE, "video decoder exception"),
    _one(85, Reach.SLICE, "copy engine exception"),
    _one(86, Reach.SLICE, "optical flow engine exception"),
    Xid(88, 89, Reach.SLICE, "video decoder exception"),
    _one(92, Reach.NOBODY, "many single-bit ECC errors, all corrected"),
    _one(93, Reach.NOBODY, "the card's own memory is written to often"),
    _one(94, Reach.SLICE, "contained memory error"),
    _one(95, Reach.GPU, "uncontained memory error"),
    Xid(96, 98, Reach.SLICE, "video decoder exception"),
    Xid(99, 105, Reach.SLICE, "JPEG engine exception"),
    Xid(106, 107, Reach.NOBODY, "a test message of the system management bus"),
    _one(108, Reach.NOBODY, "an NVLink peer could not translate an address"),
    _one(109, Reach.NOBODY, "context switch timeout: the application's own"),
    _one(110, Reach.GPU, "security fault"),
    _one(119, Reach.GPU, "the GPU's system processor did not answer in time"),
    _one(120, Reach.GPU, "error on the GPU's system processor"),
    _one(121, Reach.NOBODY, "corrected error of the link to the processor"),
    Xid(126, 135, Reach.SLICE, "copy engine exception"),
    _one(136, Reach.GPU, "an NVLink could not be trained"),
    _one(137, Reach.NOBODY, "NVLink error that a remote GPU caused"),
    _one(139, Reach.SLICE, "optical flow engine exception"),
    _one(140, Reach.GPU, "unrecovered ECC error"),
    _one(141, Reach.NOBODY, "fast path error, recovered from"),
    _one(143, Reach.GPU, "the GPU could not be initialised"),
    Xid(144, 150, Reach.GPU, "NVLink error"),
    _one(154, Reach.NOBODY, "the driver's recovery action changed: it is read from NVML"),
    _one(155, Reach.GPU, "NVLink error found by software"),
)

_BY_NUMBER = {number: each for each in TABLE for number in range(each.first, each.last + 1)}


def known(number: int) -> Xid | None:
    """The entry of an XID, or None when it is not listed."""
    return _BY_NUMBER.get(number)


def text_of(number: int) -> str:
    """`XID 94 (contained memory error)`."""
    entry = known(number)
    return f"XID {number} ({entry.meaning if entry else 'unknown to CDMO'})"
