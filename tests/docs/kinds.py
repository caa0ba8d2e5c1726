"""What becomes of each command that a page shows: who runs it, or why nobody does."""

from __future__ import annotations

import re
from enum import Enum, auto

from tests.docs.pages import PAGES, Shown, shown


class Kind(Enum):
    """How a command is tested."""

    RUN = auto()  # typed here, and what it prints is compared with what stands below it
    DEAD_END = auto()  # typed here against an API server that is away: `cdmo` takes it, and says that nobody answers
    HELM = auto()  # typed here, the real helm takes it and finds no cluster or repository
    KUBECTL = auto()  # typed here, the real kubectl takes it and finds no API server
    OWN = auto()  # a make target or tests of this repository: they exist
    NODE = auto()  # for a machine with a GPU or a shell's own business: named below


_HANDOVER = "tests/end_to_end/test_handover.py"

# `cdmo` needs a cluster here; the test that runs it on one, or on what one answers.
ON_A_CLUSTER = {
    "cdmo doctor": "tests/chart/test_on_a_cluster.py::test_the_doctor_finds_cdmos_own_parts_in_order",
    "cdmo enable NODE_NAME": f"{_HANDOVER}::test_enable_four_queues_disable_and_whole_gpus_are_back",
    "cdmo disable NODE_NAME": f"{_HANDOVER}::test_enable_four_queues_disable_and_whole_gpus_are_back",
    "cdmo disable NODE_NAME --dry-run": (
        "tests/cli/test_disable.py::test_a_dry_run_says_what_would_be_done_and_does_nothing"
    ),
    "cdmo status": "tests/cli/test_status.py::test_slots_are_drawn_a_letter_each",
}

# Commands of a node with a GPU, with the test that does the same to a simulated one, or why there is none.
ON_A_NODE = {
    "nvidia-smi -i GPU_ID -mig 1": "tests/sim/test_mode.py",
    "nvidia-smi --query-gpu=index,mig.mode.current,mig.mode.pending --format=csv": "tests/sim/test_mode.py",
    "nvidia-smi --gpu-reset -i GPU_ID": "tests/sim/test_mode.py",
    "cd examples/02-what-if": "tests/docs/test_commands.py",
}
_OF_PROGRAM = {"helm": Kind.HELM, "kubectl": Kind.KUBECTL, "make": Kind.OWN, "pytest": Kind.OWN}
_CDMO = re.compile(r"(^|\| )cdmo ")


def kind_of(each: Shown) -> Kind | None:
    """How a command is tested; None: nobody has thought of it."""
    if each.command in ON_A_NODE:
        return Kind.NODE
    if each.command in ON_A_CLUSTER:
        return Kind.DEAD_END
    if _CDMO.search(each.command):
        return Kind.RUN
    return _OF_PROGRAM.get(each.program)


COMMANDS = tuple(each for page in PAGES for each in shown(page))


def of_kind(kind: Kind) -> list[Shown]:
    """Every command of the pages that is tested so, each once where nothing stands below it."""
    found = (each for each in COMMANDS if kind_of(each) is kind)
    return list({(each.command, each.output, each.json): each for each in found}.values())


def name_of(each: Shown) -> str:
    """For pytest's list."""
    return f"{each.page}: {each.command}"
