"""The controller's pod has a read-only root, no capabilities and nobody's user id: the program has to get along."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.local_cluster import base_environment
from cdmo_harness.processes import ManagedProcess

from tests.access.caller import MIGNODES, Act
from tests.access.conftest import eventually
from tests.access.scene import Scene

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(90)]

# Python tells of every file it opens and of every program it starts. Whatever would need a writable file system or
# another user's rights ends the process with this status, before it happens.
CAUGHT = 97
PROGRAM = f"""
import os, sys

CHANGES = {{"os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
            "os.setuid", "os.fork", "os.posix_spawn", "os.exec", "os.system", "subprocess.Popen", "shutil.move"}}

def watch(event, arguments):
    if event == "open":
        path, _, flags = arguments
        caught = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not str(path).startswith("/dev/")
    else:
        caught = event in CHANGES
    if caught:
        os.write(2, f"caught: {{event}} {{arguments}}\\n".encode())
        os._exit({CAUGHT})

sys.addaudithook(watch)
exec(sys.argv.pop(1))
"""
CONTROLLER = """
import asyncio
from pathlib import Path
from cdmo.controller.main import ControllerSettings, run_controller
from cdmo.kube.connect import ConnectSettings
from cdmo.runtime.clock import SystemClock

settings = ControllerSettings(ConnectSettings(service_account=Path(sys.argv[1])), "cdmo")
asyncio.run(run_controller(settings, os.environ, SystemClock()))
"""


@pytest.fixture
def watched(cluster: ControlPlane, tmp_path: Path) -> Iterator[ManagedProcess]:
    """A controller with its token where a pod has it, which ends itself as soon as it needs more than its pod has."""
    mounted = tmp_path / "serviceaccount"
    mounted.mkdir()
    config = json.loads(cluster.service_account_kubeconfig("cdmo", "cdmo-controller").read_text())
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    (mounted / "ca.crt").write_bytes(base64.b64decode(authority))
    (mounted / "token").write_text(config["users"][0]["user"]["token"])
    (mounted / "namespace").write_text("cdmo")
    server = urlsplit(cluster.server)
    process = ManagedProcess(
        "watched-controller",
        [sys.executable, "-B", "-c", PROGRAM, CONTROLLER, mounted],
        folder=tmp_path,
        environment={
            **base_environment(),
            "KUBERNETES_SERVICE_HOST": str(server.hostname),
            "KUBERNETES_SERVICE_PORT": str(server.port),
        },
    )
    yield process
    process.stop(grace=5.0)


def test_the_controller_works_without_writing_a_file_or_starting_a_program(
    scene: Scene, watched: ManagedProcess
) -> None:
    scene.admin.do(Act("DELETE", f"{MIGNODES}/{scene.own}")).require()

    def made() -> bool:
        assert watched.running, watched.tail(20)
        return scene.admin.do(Act("GET", f"{MIGNODES}/{scene.own}")).status == 200

    eventually(made, "the controller leads and makes the MigNode of a labelled node")
    watched.stop(grace=10.0)
    assert watched.exit_status == 0, watched.tail(20)


@pytest.mark.parametrize(
    "deed", ["open('file', 'w')", "import tempfile; tempfile.mkdtemp()", "import os; os.system('true')"]
)
def test_what_the_pod_forbids_would_have_been_noticed(tmp_path: Path, deed: str) -> None:
    process = ManagedProcess(
        "deed", [sys.executable, "-B", "-c", PROGRAM, deed], folder=tmp_path, environment=base_environment()
    )
    try:
        assert process.wait(20.0)
        assert process.exit_status == CAUGHT
    finally:
        process.stop(grace=0)
