"""The queues of the ClearML agent's Helm chart: which pod a task becomes, by the queue it was put into.

ClearML's guide sets `agentk8sglue.queues.<queue>.templateOverrides` in the chart's values. Only the chart of the
Enterprise edition turns that into pod templates for the glue; the open chart has one `basePodTemplate` for all.
So this module does that chart's part: `resources` belong to the container, scheduling and metadata to the pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from cdmo_harness.clearml.errors import BadQueues


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A container's resources; amounts as Kubernetes quantities."""

    limits: dict[str, str | int] = {}
    requests: dict[str, str | int] = {}


class TemplateOverrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What a queue's pods have that others have not. Other keys of the chart are refused, not ignored."""

    resources: Resources = Resources()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []

    def pod_template(self, annotations: Mapping[str, str]) -> dict[str, Any]:
        """The template that the glue completes to a pod, with these annotations besides its own."""
        metadata = {"labels": self.labels, "annotations": {**self.annotations, **annotations}}
        container = {"resources": _filled(limits=self.resources.limits, requests=self.resources.requests)}
        spec = _filled(nodeSelector=self.node_selector, tolerations=self.tolerations)
        return {"metadata": _filled(**metadata), "spec": {**spec, "containers": [_filled(**container)]}}


class _Queue(msgspec.Struct, frozen=True, rename="camel"):
    template_overrides: TemplateOverrides = TemplateOverrides()


class _Glue(msgspec.Struct, frozen=True):
    queues: dict[str, _Queue]


class _Values(msgspec.Struct, frozen=True):
    agentk8sglue: _Glue


def read_queues(values: Path) -> dict[str, TemplateOverrides]:
    """The queues of a values file for the agent's chart, by name. Its other settings are not looked at."""
    try:
        parsed = msgspec.yaml.decode(values.read_bytes(), type=_Values)
    except OSError as error:
        raise BadQueues(f"{values} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise BadQueues(
            f"{values}: {error}",
            hint="it must look like examples/01-clearml-queues/values.yaml",
        ) from error
    return {name: queue.template_overrides for name, queue in parsed.agentk8sglue.queues.items()}


def _filled(**fields: Any) -> dict[str, Any]:
    """The fields that have content: kubectl would store an empty mapping as somebody's wish."""
    return {name: value for name, value in fields.items() if value}
