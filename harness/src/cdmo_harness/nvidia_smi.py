"""As much of `nvidia-smi` as CDMO runs: `--gpu-reset -i BUS`, on the simulated driver.

    python -m cdmo_harness.nvidia_smi LIBRARY STATE ROOT --gpu-reset -i 00000000:10:00.0

It refuses, as the real one does, while processes are on the GPU.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from cdmo_harness.driver import SimulatedDriver

_REFUSED = 19  # nvidia-smi ends with NVML's code: in use


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit status."""
    library, state, root, *wish = arguments
    if len(wish) != 3 or wish[:2] != ["--gpu-reset", "-i"]:
        sys.stdout.write(f"Invalid combination of input arguments: {shlex.join(wish)}\n")
        return 1
    with SimulatedDriver(Path(library), Path(state), Path(root)) as driver:
        gpu = next((each for each in driver.snapshot() if each.pci_bus_id == wish[2]), None)
        if gpu is None:
            sys.stdout.write(f"No devices were found for {wish[2]}\n")
            return 6
        if gpu.processes:
            sys.stdout.write(f"GPU {gpu.pci_bus_id} is currently in use by one or more other processes.\n")
            return _REFUSED
        driver.reset_gpu(gpu.uuid)
        sys.stdout.write(f"GPU {gpu.pci_bus_id} was successfully reset.\nAll done.\n")
    return 0


def install(folder: Path, library: Path, state: Path, root: Path) -> None:
    """Put a program of that name into a folder of a simulated host."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cdmo_harness.nvidia_smi", str(library), str(state), str(root)]
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    program.chmod(0o755)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
