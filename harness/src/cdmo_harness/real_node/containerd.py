"""containerd of a real node: its configuration, its network for pods, and the images it starts with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cdmo_harness.errors import HarnessError
from cdmo_harness.real_node.image import write_image
from cdmo_harness.real_node.layout import Layout
from cdmo_harness.real_node.programs import Programs

# The one image of tests and demos, under the name their pods ask for, and the sandbox of every pod.
WORKLOAD_IMAGE = "example.invalid/train:1"
_SANDBOX_IMAGE = "cdmo.invalid/sandbox:1"
_NAMESPACE = "k8s.io"  # containerd's own, of everything that a kubelet has it do
CNI_PLUGINS = ("/usr/lib/cni", "/opt/cni/bin")  # Debian's folder, and that of upstream's packages
_CTR_LIMIT = 60.0
_OVERLAYFS_MAGIC = 0x794C7630

_CONFIGURATION = """
version = 2
root = "{folder}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox}"
disable_apparmor = true
# A container's score may not be below this process' own; without CAP_SYS_RESOURCE the kernel refuses that.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{network}"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "{specification}"
"""


def command(layout: Layout) -> list[str]:
    """How containerd is started, after `configure`."""
    return ["containerd", "--config", str(_configuration(layout))]


def configure(layout: Layout, programs: Programs, library: Path, state: Path) -> None:
    """Write everything that containerd reads."""
    network = layout.folder / "cni"
    network.mkdir(exist_ok=True)
    (network / "10-node.conflist").write_text(json.dumps(_network(layout)))
    specification = layout.folder / "container.json"
    specification.write_text(json.dumps(_specification(programs.slice_hook, library, state, layout.records)))
    _configuration(layout).write_text(
        _CONFIGURATION.format(
            folder=layout.containerd_folder,
            socket=layout.containerd_socket,
            sandbox=_SANDBOX_IMAGE,
            plugins=cni_plugins(),
            network=network,
            snapshotter=_snapshotter(layout.folder),
            specification=specification,
        )
    )


def import_images(layout: Layout, programs: Programs, more: Iterable[Path] = ()) -> None:
    """Give containerd the workload, under both names, and what further archives hold. It must be running."""
    archive = layout.folder / "image.tar"
    write_image(archive, [WORKLOAD_IMAGE, _SANDBOX_IMAGE], programs.workload)
    for each in (archive, *more):
        _import(layout, each)


def _import(layout: Layout, archive: Path) -> None:
    _ctr("--address", str(layout.containerd_socket), "--namespace", _NAMESPACE, "images", "import", str(archive))


def cni_plugins() -> Path:
    """The folder of the CNI plugins; HarnessError when there is none."""
    for folder in map(Path, CNI_PLUGINS):
        if (folder / "bridge").is_file():
            return folder
    raise HarnessError("the CNI plugins are missing", hint="install the package containernetworking-plugins")


def _configuration(layout: Layout) -> Path:
    return layout.folder / "containerd.toml"


def _network(layout: Layout) -> dict[str, Any]:
    """Pods on a bridge of the node's namespace: a sandbox must have an address, nothing more."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni-addresses",
        "ranges": [[{"subnet": layout.pod_range}]],
    }
    bridge = {"type": "bridge", "bridge": "pods0", "isDefaultGateway": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "node", "plugins": [bridge]}


def _specification(hook: Path, library: Path, state: Path, records: Path) -> dict[str, Any]:
    """containerd's own base of every container, with our hook before a container starts and after it ended."""
    base: dict[str, Any] = json.loads(_ctr("oci", "spec"))

    def run(when: str) -> list[dict[str, Any]]:
        return [{"path": str(hook), "args": ["slice-hook", when, str(library), str(state), str(records)]}]

    return {**base, "hooks": {"createRuntime": run("create"), "poststop": run("delete")}}


def _snapshotter(folder: Path) -> str:
    """overlayfs, which cannot lie upon itself: inside a container the plain copies of "native"."""
    answer = subprocess.run(["stat", "-f", "-c", "%t", str(folder)], capture_output=True, text=True, check=True)
    return "native" if int(answer.stdout, 16) == _OVERLAYFS_MAGIC else "overlayfs"


def _ctr(*arguments: str) -> str:
    try:
        done = subprocess.run(
            [shutil.which("ctr") or "ctr", *arguments],
            capture_output=True,
            text=True,
            timeout=_CTR_LIMIT,
            check=True,
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or ""
        raise HarnessError(f"ctr {' '.join(arguments)} failed: {said.strip()[-300:] or error}") from error
    return done.stdout
