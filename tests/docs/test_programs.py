"""helm and kubectl take every command that the documents show: typed to the real programs, away from any cluster.

What can go wrong then is that nobody answers. A flag that is gone, a wrong number of arguments or a resource written
wrongly are told before that.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from cdmo_harness.binaries import Binaries, Component

from tests.chart.helm import CHART, Helm, find_helm
from tests.docs.kinds import Kind, name_of, of_kind
from tests.docs.pages import REPOSITORY, Shown, blocks, nobodys_kubeconfig

# Nothing listens there: whoever asks the network is refused at once, here as on a machine that reaches it.
NOBODY = "http://127.0.0.1:9"
REFUSED = re.compile(r"connect: connection refused|The connection to the server 127\.0\.0\.1:9 was refused")
NOT_REACHED = re.compile(r"connection refused|[Cc]luster unreachable|repo \S+ not found|no repositories found")


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The real one."""
    return Helm(find_helm(os.environ), tmp_path_factory.mktemp("helm"))


def typed(program: Path, command: str, folder: Path) -> str:
    """What a real program says to a command, in a folder with the charts, the manifests and the files it names."""
    for name in ("charts", "deploy"):
        (folder / name).symlink_to(REPOSITORY / name)
    for name in re.findall(r"(?<!\S)(?:-f|--values) (?!deploy/)(\S+\.yaml)", command):
        (folder / name).write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: any}}")
    programs = folder / "bin"
    programs.mkdir()
    (programs / program.name).symlink_to(program)
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.defpath}",
        "HOME": str(folder),
        "KUBECONFIG": str(nobodys_kubeconfig(folder)),
        "POD": "pod/of-the-device-plugin",
        "HTTPS_PROXY": NOBODY,
        "HTTP_PROXY": NOBODY,
    }
    script = ["/bin/sh", "-c", command]
    done = subprocess.run(
        script, cwd=folder, env=environment, capture_output=True, text=True, timeout=15, check=False
    )
    assert done.returncode != 0, done.stdout
    return done.stderr


@pytest.mark.parametrize("each", of_kind(Kind.HELM), ids=name_of)
def test_helm_takes_the_command(helm: Helm, each: Shown, tmp_path: Path) -> None:
    assert NOT_REACHED.search(typed(helm.program, each.command, tmp_path))


@pytest.mark.cluster
@pytest.mark.parametrize("each", of_kind(Kind.KUBECTL), ids=name_of)
def test_kubectl_takes_the_command(binaries: Binaries, each: Shown, tmp_path: Path) -> None:
    assert REFUSED.search(typed(binaries.path(Component.KUBECTL), each.command, tmp_path))


@pytest.mark.parametrize("flag", ["--nonsense", "--namespace"])
def test_a_command_that_is_wrong_would_be_noticed(helm: Helm, flag: str, tmp_path: Path) -> None:
    answer = typed(helm.program, f"helm upgrade -i cdmo charts/clearml-dynamic-mig-operator {flag}", tmp_path)
    assert not NOT_REACHED.search(answer), answer


@pytest.mark.parametrize("page", ["docs/install.md", "docs/k3s-and-microk8s.md"])
def test_the_chart_takes_the_values_that_a_page_shows(helm: Helm, page: str, tmp_path: Path) -> None:
    shown = [text for text in blocks(page, "yaml") if {"agent", "controller", "image"} & yaml.safe_load(text).keys()]
    assert shown
    for text in shown:
        (tmp_path / "values.yaml").write_text(text)
        answer = helm.run("template", "cdmo", str(CHART), "--namespace", "cdmo", "-f", str(tmp_path / "values.yaml"))
        assert answer.status == 0, answer.errors
        secrets = [each for each in yaml.safe_load_all(answer.output) if each and each["kind"] == "Secret"]
        assert bool(secrets) == ("imageCredentials" in text)


def test_a_page_names_no_chart_but_those_that_are_known() -> None:
    words = (word for each in of_kind(Kind.HELM) for word in shlex.split(each.command))
    charts = {word for word in words if word.count("/") == 1 and "=" not in word}
    assert charts == {"nvidia/gpu-operator", "clearml/clearml-agent", "charts/clearml-dynamic-mig-operator"}
