"""Programs of a build: their words reach the reader, and nothing of them outlives the build."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from cdmo_harness.errors import ImageNotBuilt
from cdmo_harness.images.contained import require, run_contained

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces, which needs root")

# Says when its child runs, and would wait for it for ever.
CALLER = """
import os, sys
from cdmo_harness.images.contained import run_contained
run_contained(["sh", "-c", "mount -t tmpfs none /mnt; echo up; exec sleep infinity", sys.argv[1]],
    environment=os.environ, on_line=lambda line: print(line, flush=True))
"""


def processes_with(word: str) -> list[int]:
    """Ids of the processes, but for this one, whose arguments or environment contain the word."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile
    return found


@needs_root
def test_each_line_is_heard_and_the_last_ones_are_in_the_failure() -> None:
    heard: list[str] = []
    with pytest.raises(ImageNotBuilt, match="sh ended with status 3: one two") as caught:
        run_contained(
            ["sh", "-c", "echo one; echo two >&2; exit 3"],
            environment=os.environ,
            on_line=heard.append,
            hint="look there",
        )
    assert heard == ["one", "two"]
    assert caught.value.hint == "look there"


@needs_root
def test_a_long_story_is_cut_to_its_end() -> None:
    with pytest.raises(ImageNotBuilt) as caught:
        run_contained(["sh", "-c", "seq 1000; exit 1"], environment=os.environ)
    assert str(caught.value).endswith(" 999 1000")
    assert " 900 " not in str(caught.value)


@needs_root
def test_what_it_mounts_is_not_mounted_here(tmp_path: Path) -> None:
    inside: list[str] = []
    run_contained(
        ["sh", "-c", f"mount -t tmpfs none {tmp_path} && grep -c {tmp_path} /proc/mounts"],
        environment=os.environ,
        on_line=inside.append,
    )
    assert inside == ["1"]
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


@needs_root
def test_everything_ends_when_the_caller_is_killed() -> None:
    mark = f"test-{uuid.uuid4()}"
    environment = {**os.environ, "CDMO_TEST_MARK": mark}
    command = [sys.executable, "-c", CALLER, mark]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "up\n"
        others = [pid for pid in processes_with(mark) if pid != caller.pid]
        assert len(others) >= 2  # unshare and sleep
        descriptors = [os.pidfd_open(pid) for pid in others]
        caller.kill()
        assert caller.wait() == -signal.SIGKILL
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    while descriptors:
        ended = poll.poll(10_000)
        assert ended, f"still running: {processes_with(mark)}"
        for descriptor, _ in ended:
            poll.unregister(descriptor)
            descriptors.remove(descriptor)
            os.close(descriptor)
    assert " /mnt tmpfs " not in Path("/proc/mounts").read_text()


@needs_root
def test_a_missing_program_is_named_with_how_to_get_it() -> None:
    with pytest.raises(ImageNotBuilt, match=r"needs no-such-builder, which this machine has not") as caught:
        require("no-such-builder", "sh")
    assert "apt-get install --no-install-recommends no-such-builder" in caught.value.hint


def test_who_is_not_root_is_told_the_other_way() -> None:
    code = (
        "import os\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "from cdmo_harness.errors import HarnessError\n"
        "from cdmo_harness.images.contained import require\n"
        "try: require('buildah')\n"
        "except HarnessError as error: print(error); print(error.hint)\n"
    )
    # The interpreter and its packages may lie in a folder that only root reads, so they are loaded first.
    code = "import cdmo_harness.errors, cdmo_harness.images.contained\n" + code
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == (
        "building the image without a registry needs root\n"
        "run it as root, or build the Dockerfile with docker or buildah (docs/image.md)\n"
    )
