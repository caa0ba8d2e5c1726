"""Write the pages of docs/reference that are made from the code: commands, MigNode, Events, metrics, names.

    python -m tools.generate_reference --write    what `make crd` does
    python -m tools.generate_reference --check    what `make check` asks

The chart's values are in its README (tools/generate_chart.py), rights and protocol in pages of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tools.generated import REPOSITORY, write_or_check
from tools.reference import cli, events, metrics, mignode, names

TARGET = REPOSITORY / "docs" / "reference"


def made() -> Mapping[Path, str]:
    """Every page and its text. Raises NotMade."""
    return {
        TARGET / "cli.md": cli.page(),
        TARGET / "events.md": events.page(events.SOURCE.read_text()),
        TARGET / "metrics.md": metrics.page(),
        TARGET / "mignode.md": mignode.page(),
        TARGET / "names.md": names.page(),
    }


if __name__ == "__main__":
    sys.exit(write_or_check("The reference.", made, "src/cdmo", sys.argv[1:]))
