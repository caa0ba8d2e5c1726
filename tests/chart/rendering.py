"""Objects of the chart as the real helm renders them, for values that a test gives as a mapping."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.chart.helm import CHART, Helm

Json = dict[str, Any]

NAMESPACE = "cdmo"


class Refused(Exception):
    """Helm renders nothing; the text is what it says."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Renders the chart of this checkout, or the one in another folder."""

    helm: Helm
    scratch: Path
    folder: Path = CHART

    def text(self, values: Mapping[str, Any], *arguments: str, namespace: str = NAMESPACE) -> str:
        """What `helm template` prints. Raises Refused."""
        file = self.scratch / "values.json"
        file.write_text(json.dumps(values))
        answer = self.helm.run(
            "template", "cdmo", str(self.folder), "--namespace", namespace, "--values", str(file), *arguments
        )
        if answer.status != 0:
            raise Refused(answer.errors)
        return answer.output

    def objects(self, values: Mapping[str, Any], *arguments: str, namespace: str = NAMESPACE) -> list[Json]:
        """The objects, in the order of the output. Raises Refused."""
        text = self.text(values, *arguments, namespace=namespace)
        # The CRD is long, and libyaml reads it many times faster.
        return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]

    def notes(self, values: Mapping[str, Any]) -> str:
        """What `helm install` tells the administrator."""
        file = self.scratch / "values.json"
        file.write_text(json.dumps(values))
        answer = self.helm.run(
            "install", "cdmo", str(self.folder), "-n", NAMESPACE, "--dry-run=client", "--values", str(file)
        )
        if answer.status != 0:
            raise Refused(answer.errors)
        return answer.output.partition("NOTES:\n")[2]


def identity(item: Json) -> tuple[str, str, str]:
    """Kind, namespace and name."""
    metadata = item["metadata"]
    return str(item["kind"]), str(metadata.get("namespace", "")), str(metadata["name"])


def of_kind(objects: Iterable[Json], kind: str) -> list[Json]:
    """Those of one kind."""
    return [each for each in objects if each["kind"] == kind]


def one(objects: Iterable[Json], kind: str, name: str) -> Json:
    """The only object of this kind and name."""
    (found,) = (each for each in of_kind(objects, kind) if each["metadata"]["name"] == name)
    return found


# Kind and name of what makes each component's pods, at a first install.
WORKLOADS = {
    "controller": ("Deployment", "cdmo-controller"),
    "agent": ("DaemonSet", "cdmo-agent"),
    "settle": ("Job", "cdmo-settle"),
    "doctor": ("Job", "cdmo-doctor-1"),
}


def pod_spec(objects: Iterable[Json], component: str) -> Json:
    """The spec of a component's pods."""
    spec: Json = one(objects, *WORKLOADS[component])["spec"]["template"]["spec"]
    return spec


def container(objects: Iterable[Json], component: str) -> Json:
    """The one container of a component."""
    (found,) = pod_spec(objects, component)["containers"]
    return dict(found)


def nested(path: Iterable[str], value: Any) -> Json:
    """`{"a": {"b": value}}` for the path a, b."""
    made = value
    for part in reversed(list(path)):
        made = {part: made}
    return dict(made)


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> Json:
    """Both, as Helm lays one values file over another; None takes a key out."""
    both = dict(first)
    for key, value in second.items():
        held = both.get(key)
        both[key] = merged(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return {key: value for key, value in both.items() if value is not None}
