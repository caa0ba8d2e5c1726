"""deploy/gpu-operator: the override files that `cdmo gpu-operator values` prints.

python -m tools.generate_gpu_operator --write   what `make crd` does
python -m tools.generate_gpu_operator --check   what `make check` asks
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from cdmo.gpu_operator.files import files
from tools.generated import REPOSITORY, write_or_check

TARGET = REPOSITORY / "deploy" / "gpu-operator"


def made() -> Mapping[Path, str]:
    """Every file with its content."""
    return {TARGET / name: content for name, content in files().items()}


if __name__ == "__main__":
    sys.exit(write_or_check("The gpu-operator's values.", made, "src/cdmo/gpu_operator", sys.argv[1:]))
