"""A real API server with helm for it, and somebody who runs the pods of Jobs as a kubelet would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cdmo_harness.binaries import Binaries
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.errors import ControlPlaneError

from tests.chart.helm import CHART, Answer, Helm
from tests.chart.rendering import Json

LIMIT = 30.0  # seconds
COMMAND = Path(sys.executable).with_name("cdmo")
# The page's override file.
OVERRIDE = 'imageCredentials:\n  password: "a-token"\n'


class Site:
    """A cluster of its own, and helm for it."""

    def __init__(self, plane: ControlPlane, helm: Helm, folder: Path) -> None:
        self.plane = plane
        self.helm = self.with_program_of(helm)
        self.override = folder / "cdmo-values.override.yaml"
        self.override.write_text(OVERRIDE)

    def with_program_of(self, helm: Helm) -> Helm:
        """Helm for this cluster, of that version."""
        return replace(helm, kubeconfig=self.plane.admin_kubeconfig, limit=90.0)  # it waits for Jobs

    def install(self, *arguments: str, chart: Path = CHART) -> None:
        """The page's command, with the chart of this checkout."""
        command = ("upgrade", "-i", "-n", "cdmo", "cdmo", str(chart), "--create-namespace", "-f", str(self.override))
        answer = self.helm.run(*command, *arguments)
        assert answer.status == 0, answer.errors

    def uninstall(self, *arguments: str) -> Answer:
        """The page's other command."""
        return self.helm.run("uninstall", "-n", "cdmo", "cdmo", *arguments)

    def names(self, kind: str) -> set[str]:
        """Of CDMO's objects of a kind, in all namespaces."""
        text = self.plane.kubectl("get", kind, "-A", "-l", "app.kubernetes.io/name=cdmo", "-o", "name")
        return {line.partition("/")[2] for line in text.splitlines()}

    def get(self, *what: str) -> Any:
        """One object."""
        return json.loads(self.plane.kubectl("get", *what, "-o", "json"))

    def create(self, item: Json) -> None:
        """Store an object."""
        self.plane.kubectl("create", "-f", "-", stdin=json.dumps(item))

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        limit = time.monotonic() + LIMIT
        while not holds():
            assert time.monotonic() < limit, f"not within {LIMIT:.0f} s: {what}"
            time.sleep(0.1)

    def revision(self) -> str:
        """Of the release, as Helm counts."""
        answer = self.helm.run("status", "-n", "cdmo", "cdmo", "-o", "json")
        assert answer.status == 0, answer.errors
        return str(json.loads(answer.output)["version"])

    def succeeded(self, job: str) -> bool:
        """Whether a Job is done."""
        return bool(self.get("job", "-n", "cdmo", job).get("status", {}).get("succeeded"))

    def cdmo(self, *arguments: str) -> str:
        """What the command prints for an administrator."""
        command = [str(COMMAND), *arguments, f"--kubeconfig={self.plane.admin_kubeconfig}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def diagnosis(self) -> dict[str, set[str]]:
        """What `cdmo doctor` says, as the statuses of each check."""
        found: dict[str, set[str]] = {}
        for each in json.loads(self.cdmo("doctor", "-o", "json", "--exit-zero")):
            found.setdefault(each["check"], set()).add(each["status"])
        return found


@contextmanager
def labelled_site(binaries: Binaries, helm: Helm, folder: Path) -> Iterator[Site]:
    """With one labelled Node and nothing of CDMO."""
    with ControlPlane(binaries) as plane:
        site = Site(plane, helm, folder)
        site.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1"}})
        plane.kubectl("label", "node", "gpu-1", "cdmo.clear.ml/gpu-partitioning=mig")
        yield site


@dataclass(frozen=True, slots=True)
class Run:
    """What a pod's program said and how it ended."""

    status: int
    output: str
    errors: str


@dataclass
class JobRunner:
    """Runs the program of every pod that a Job makes, by the pod's own account, and tells the API server its end.

    It takes the kubelet's part: command, arguments, account and variables are those of the pod that Kubernetes made.
    """

    site: Site
    runs: dict[str, Run] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until it is over."""
        while not self._over.is_set():
            try:
                pods = json.loads(
                    self.site.plane.kubectl("get", "pods", "-n", "cdmo", "-l", "job-name", "-o", "json")
                )
                for pod in pods["items"]:
                    if pod["metadata"]["name"] not in self.runs:
                        self._run(pod)
            except ControlPlaneError:  # a pod went in between
                continue
            finally:
                self._over.wait(0.2)

    def stop(self) -> None:
        """Let `run` end."""
        self._over.set()

    def last(self, job: str) -> Run:
        """How the newest pod of a Job ended."""
        return [run for pod, run in self.runs.items() if pod.startswith(job)][-1]

    def _run(self, pod: Json) -> None:
        name, spec = pod["metadata"]["name"], pod["spec"]
        (program,) = spec["containers"]
        executable, *arguments = (*program["command"], *program["args"])
        assert executable == "cdmo"
        kubeconfig = self.site.plane.service_account_kubeconfig("cdmo", spec["serviceAccountName"])
        fields = {"metadata.namespace": pod["metadata"]["namespace"]}
        told = {each["name"]: fields[each["valueFrom"]["fieldRef"]["fieldPath"]] for each in program["env"]}
        answer = subprocess.run(
            [COMMAND, *arguments],
            capture_output=True,
            text=True,
            env={"PATH": os.defpath, "KUBECONFIG": str(kubeconfig), **told},
            timeout=LIMIT,
            check=False,
        )
        self.runs[name] = Run(answer.returncode, answer.stdout, answer.stderr)
        phase = "Succeeded" if answer.returncode == 0 else "Failed"
        patch = json.dumps({"status": {"phase": phase}})
        self.site.plane.kubectl(
            "patch", "pod", name, "-n", "cdmo", "--subresource=status", "--type=merge", "-p", patch
        )


@contextmanager
def running_jobs(site: Site) -> Iterator[JobRunner]:
    """Jobs come to their end while this is open."""
    runner = JobRunner(site)
    thread = threading.Thread(target=runner.run, name="jobs", daemon=True)
    thread.start()
    try:
        yield runner
    finally:
        runner.stop()
        thread.join(LIMIT)
