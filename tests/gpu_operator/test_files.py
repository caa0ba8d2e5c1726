"""deploy/gpu-operator holds what the command prints, and nothing else."""

from __future__ import annotations

from cdmo.gpu_operator.files import files
from tools.generate_gpu_operator import TARGET, made


def test_the_committed_files_are_what_is_generated() -> None:
    assert {path: path.read_text() for path in TARGET.rglob("*.yaml")} == made()


def test_there_is_a_file_for_each_way_and_distribution() -> None:
    names = {f"{mig}{where}.yaml" for mig in ("on", "off") for where in ("", "-k3s", "-microk8s")}
    assert files().keys() == names | {f"up-to-25.3/{name}" for name in names}
