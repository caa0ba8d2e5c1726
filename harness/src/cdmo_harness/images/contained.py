"""Programs that mount things and start others, run so that nothing of them stays, however this process ends.

Each gets a mount namespace and a process id namespace of its own. The kernel kills the namespace's first process
when the one that asked for it ends (PR_SET_PDEATHSIG), with it all others there, and the mounts go with the last.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cdmo_harness.errors import ImageNotBuilt

_PREFIX = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
)

# Lines of a program's output that an error message repeats.
_SHOWN_LINES = 15


def require(*programs: str) -> None:
    """Raises ImageNotBuilt unless this is root and all programs are here."""
    if os.geteuid() != 0:
        raise ImageNotBuilt(
            "building the image without a registry needs root",
            hint="run it as root, or build the Dockerfile with docker or buildah (docs/image.md)",
        )
    missing = [each for each in (*programs, "setpriv", "unshare") if shutil.which(each) is None]
    if missing:
        raise ImageNotBuilt(
            f"building the image needs {', '.join(missing)}, which this machine has not",
            hint=f"on Debian: apt-get install --no-install-recommends {' '.join(programs)}",
        )


def run_contained(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    on_line: Callable[[str], None] = lambda line: None,
    hint: str = "",
) -> None:
    """Run a program to its end; `on_line` hears its output, both streams. Raises ImageNotBuilt if it fails.

    To be called from a thread that lives until it returns: the program ends with the thread.
    """
    said: deque[str] = deque(maxlen=_SHOWN_LINES)
    name = Path(command[0]).name
    try:
        process = subprocess.Popen(
            [*_PREFIX, *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ImageNotBuilt(f"{name} cannot be run: {error}") from error
    with process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line.rstrip())
                on_line(line.rstrip())
            status = process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if status != 0:
        raise ImageNotBuilt(f"{name} ended with status {status}: " + "\n".join(said), hint=hint)
