"""Objects as an API server shows them, also odd ones, become facts or a MsgspecError."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdmo.doctor.facts import ClusterPolicy, Definition, PluginConfig, Policy, Workload
from cdmo.kube import doctor_objects as objects

READERS = (
    objects.node_fact,
    objects.daemon_set,
    objects.deployment,
    objects.cluster_policy,
    objects.config_map,
    objects.gpu_cluster,
    objects.policy_fact,
    objects.binding_fact,
    objects.device_class,
    objects.definition,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["metadata", "name", "spec", "status", "labels", "template", "containers", "env", "data", "versions", "mig"]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


@settings(max_examples=40)
@given(JSON)
def test_any_object_is_read_or_refused(value: Any) -> None:
    for reader in READERS:
        with suppress(msgspec.MsgspecError):
            reader(raw(value))


@pytest.mark.parametrize("reader", READERS)
def test_an_object_of_nulls_is_read(reader: Any) -> None:
    found = reader(raw({"metadata": {"name": "a", "labels": None}, "spec": None, "status": None, "data": None}))
    assert "a" in str(found)


def test_a_daemon_set_and_a_deployment_count_their_pods_differently() -> None:
    status = {"desiredNumberScheduled": 3, "numberReady": 2, "readyReplicas": 1}
    value = raw({"metadata": {"name": "a", "namespace": "n"}, "spec": {"replicas": 2}, "status": status})
    assert objects.daemon_set(value) == Workload("DaemonSet", "n", "a", service_account="default", wanted=3, ready=2)
    assert objects.deployment(value) == Workload("Deployment", "n", "a", service_account="default", wanted=2, ready=1)


def test_of_two_variables_of_one_name_the_last_holds() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {}}, {"name": "A", "value": "2"}]
    value = {"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "env": env}]}}}}
    assert objects.daemon_set(raw(value)).containers[0].env == {"A": "2"}


def test_what_a_cluster_policy_does_not_say_is_not_taken_for_an_answer() -> None:
    assert objects.cluster_policy(raw({"metadata": {"name": "p"}, "spec": {"cdi": {}}})) == ClusterPolicy("p")


def test_a_policy_is_seen_when_its_latest_generation_was() -> None:
    value = {"metadata": {"name": "p", "generation": 2}, "status": {"observedGeneration": 1}}
    assert objects.policy_fact(raw(value)) == Policy("p", seen=False)
    value["status"] = {"observedGeneration": 2}
    assert objects.policy_fact(raw(value)).seen


def test_only_served_versions_of_a_definition_count() -> None:
    versions = [{"name": "v1", "served": True}, {"name": "v2", "served": False}]
    value = {"metadata": {"name": "d.g"}, "spec": {"versions": versions}, "status": {"conditions": []}}
    assert objects.definition(raw(value)) == Definition("d.g", ("v1",), established=False)


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("flags: {migStrategy: mixed}", PluginConfig("mixed")),
        ("version: v1", PluginConfig()),
        ("flags: {migStrategy: 3}\nsharing: [1]", PluginConfig()),
        ("sharing: {mps: {resources: [{name: a}, 3, {}]}}", PluginConfig(mps=("a",))),
        ("sharing: {timeSlicing: {resources: {}}}", PluginConfig()),
        ("", PluginConfig(readable=False)),
        ("- 1", PluginConfig(readable=False)),
        ("a: [", PluginConfig(readable=False)),
        ("a: 1\n---\nb: 2", PluginConfig(readable=False)),
        ("#" * 70_000, PluginConfig(readable=False)),
    ],
)
def test_a_plugins_file_is_read_as_far_as_it_matters(text: str, config: PluginConfig) -> None:
    assert objects.plugin_config(text) == config
