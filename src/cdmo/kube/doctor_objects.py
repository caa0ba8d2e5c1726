"""Objects of the API -> the doctor's facts. Lenient: an odd object still says what it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from cdmo.api.decoding import decoder
from cdmo.doctor.facts import (
    ClusterPolicy,
    ConfigMap,
    Container,
    Definition,
    DeviceClass,
    NodeFact,
    PluginConfig,
    Policy,
    PolicyBinding,
    Workload,
)
from cdmo.errors import BadInput
from cdmo.kube.lenient import Labels, Lenient, label_map
from cdmo.kube.yaml_values import yaml_documents

T = TypeVar("T")
_CONFIG_LIMIT = 64 * 1024  # characters of one configuration of the device plugin


class _Meta(Lenient, frozen=True):
    name: str = ""
    namespace: str | None = None
    labels: Labels | None = None
    generation: int | None = None


class _Named(Lenient, frozen=True):
    metadata: _Meta = _Meta()


class _Variable(Lenient, frozen=True):
    name: str = ""
    value: str | None = None


class _Container(Lenient, frozen=True):
    name: str = ""
    image: str | None = None
    env: list[_Variable] | None = None


class _PodSpec(Lenient, frozen=True):
    containers: list[_Container] | None = None
    service_account_name: str | None = None


class _Template(Lenient, frozen=True):
    spec: _PodSpec | None = None


class _WorkloadSpec(Lenient, frozen=True):
    template: _Template | None = None
    replicas: int | None = None


class _WorkloadStatus(Lenient, frozen=True):
    desired_number_scheduled: int | None = None
    number_ready: int | None = None
    ready_replicas: int | None = None


class _Workload(_Named, frozen=True):
    spec: _WorkloadSpec | None = None
    status: _WorkloadStatus | None = None


class _Enabled(Lenient, frozen=True):
    enabled: bool | None = None
    nri_plugin_enabled: bool | None = None


class _Mig(Lenient, frozen=True):
    strategy: str | None = None


class _PluginFile(Lenient, frozen=True):
    name: str | None = None
    default: str | None = None


class _Plugin(Lenient, frozen=True):
    config: _PluginFile | None = None


class _ClusterPolicySpec(Lenient, frozen=True):
    mig_manager: _Enabled | None = None
    mig: _Mig | None = None
    cdi: _Enabled | None = None
    device_plugin: _Plugin | None = None


class _State(Lenient, frozen=True):
    state: str | None = None


class _ClusterPolicy(_Named, frozen=True):
    spec: _ClusterPolicySpec | None = None
    status: _State | None = None


class _ConfigMap(_Named, frozen=True):
    data: dict[str, str | None] | None = None


class _PolicySpec(Lenient, frozen=True):
    failure_policy: str | None = None
    policy_name: str | None = None
    validation_actions: list[str] | None = None


class _Warning(Lenient, frozen=True):
    field_ref: str | None = None
    warning: str | None = None


class _TypeChecking(Lenient, frozen=True):
    expression_warnings: list[_Warning] | None = None


class _PolicyStatus(Lenient, frozen=True):
    observed_generation: int | None = None
    type_checking: _TypeChecking | None = None


class _Policy(_Named, frozen=True):
    spec: _PolicySpec | None = None
    status: _PolicyStatus | None = None


class _DeviceClassSpec(Lenient, frozen=True):
    extended_resource_name: str | None = None


class _DeviceClass(_Named, frozen=True):
    spec: _DeviceClassSpec | None = None


class _ServedVersion(Lenient, frozen=True):
    name: str = ""
    served: bool | None = None


class _DefinitionSpec(Lenient, frozen=True):
    versions: list[_ServedVersion] | None = None


class _Condition(Lenient, frozen=True):
    type: str = ""
    status: str = ""


class _Conditions(Lenient, frozen=True):
    conditions: list[_Condition] | None = None


class _Definition(_Named, frozen=True):
    spec: _DefinitionSpec | None = None
    status: _Conditions | None = None


def _reader(struct: type[Any], fact: Callable[[Any], T]) -> Callable[[msgspec.Raw], T]:
    decode = decoder(struct)
    return lambda raw: fact(decode(raw))


def _node(found: _Named) -> NodeFact:
    return NodeFact(found.metadata.name, label_map(found.metadata.labels))


def _container(found: _Container) -> Container:
    env = {each.name: each.value for each in found.env or () if each.value is not None}
    return Container(found.name, found.image or "", env)  # of two entries the last holds, as in a container


def _workload(kind: str) -> Callable[[_Workload], Workload]:
    def fact(found: _Workload) -> Workload:
        spec, status = found.spec or _WorkloadSpec(), found.status or _WorkloadStatus()
        pods = (spec.template.spec if spec.template else None) or _PodSpec()
        daemons = kind == "DaemonSet"
        return Workload(
            kind,
            found.metadata.namespace or "",
            found.metadata.name,
            label_map(found.metadata.labels),
            tuple(map(_container, pods.containers or ())),
            pods.service_account_name or "default",
            (status.desired_number_scheduled if daemons else spec.replicas) or 0,
            (status.number_ready if daemons else status.ready_replicas) or 0,
        )

    return fact


def _cluster_policy(found: _ClusterPolicy) -> ClusterPolicy:
    spec = found.spec or _ClusterPolicySpec()
    files = (spec.device_plugin.config if spec.device_plugin else None) or _PluginFile()
    return ClusterPolicy(
        found.metadata.name,
        (found.status.state if found.status else None) or "",
        spec.mig_manager.enabled if spec.mig_manager else None,
        (spec.mig.strategy if spec.mig else None) or "",
        spec.cdi.enabled if spec.cdi else None,
        spec.cdi.nri_plugin_enabled if spec.cdi else None,
        files.name or "",
        files.default or "",
    )


def _config_map(found: _ConfigMap) -> ConfigMap:
    configs = {name: plugin_config(text or "") for name, text in (found.data or {}).items()}
    return ConfigMap(found.metadata.namespace or "", found.metadata.name, configs)


def plugin_config(text: str) -> PluginConfig:
    """A configuration file of the device plugin, as far as MIG and sharing go."""
    if len(text) > _CONFIG_LIMIT:
        return PluginConfig(readable=False)
    try:
        documents = [each.value for each in yaml_documents(text.encode())]
    except BadInput:
        return PluginConfig(readable=False)
    value = documents[0] if len(documents) == 1 else None
    if not isinstance(value, dict):
        return PluginConfig(readable=False)
    strategy = _in(value, "flags").get("migStrategy")
    sharing = _in(value, "sharing")
    return PluginConfig(
        strategy if isinstance(strategy, str) else "",
        _shared(_in(sharing, "mps")),
        _shared(_in(sharing, "timeSlicing")),
    )


def _in(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _shared(how: Mapping[str, Any]) -> tuple[str, ...]:
    resources = how.get("resources")
    entries = resources if isinstance(resources, list) else []
    return tuple(str(each["name"]) for each in entries if isinstance(each, dict) and "name" in each)


def _policy(found: _Policy) -> Policy:
    status = found.status or _PolicyStatus()
    checked = status.type_checking or _TypeChecking()
    warnings = tuple(f"{one.field_ref}: {one.warning}" for one in checked.expression_warnings or ())
    seen = (status.observed_generation or 0) >= (found.metadata.generation or 0)
    return Policy(found.metadata.name, (found.spec.failure_policy if found.spec else None) or "Fail", seen, warnings)


def _binding(found: _Policy) -> PolicyBinding:
    spec = found.spec or _PolicySpec()
    return PolicyBinding(found.metadata.name, spec.policy_name or "", tuple(spec.validation_actions or ()))


def _device_class(found: _DeviceClass) -> DeviceClass:
    return DeviceClass(found.metadata.name, (found.spec.extended_resource_name if found.spec else None) or "")


def _definition(found: _Definition) -> Definition:
    versions = (found.spec.versions if found.spec else None) or ()
    conditions = (found.status.conditions if found.status else None) or ()
    established = any(each.type == "Established" and each.status == "True" for each in conditions)
    return Definition(found.metadata.name, tuple(each.name for each in versions if each.served), established)


node_fact = _reader(_Named, _node)
daemon_set = _reader(_Workload, _workload("DaemonSet"))
deployment = _reader(_Workload, _workload("Deployment"))
cluster_policy = _reader(_ClusterPolicy, _cluster_policy)
config_map = _reader(_ConfigMap, _config_map)
gpu_cluster = _reader(_Named, lambda found: str(found.metadata.name))
policy_fact = _reader(_Policy, _policy)
binding_fact = _reader(_Policy, _binding)
device_class = _reader(_DeviceClass, _device_class)
definition = _reader(_Definition, _definition)
