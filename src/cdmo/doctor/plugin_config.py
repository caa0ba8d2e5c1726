"""The device plugin's configuration file, which each Node can choose by a label: does it advertise slices?"""

from __future__ import annotations

from collections.abc import Iterator

from cdmo.doctor.facts import ClusterFacts, ConfigMap, NodeFact, PluginConfig, Source
from cdmo.doctor.finding import Check, Status, Trouble
from cdmo.doctor.parts import managed, plugins
from cdmo.model.names import is_mig_resource

CONFIG_LABEL = "nvidia.com/device-plugin.config"


def _config(facts: ClusterFacts) -> Iterator[Trouble]:
    policy = next((each for each in facts.cluster_policies if each.plugin_config), None)
    if policy is None:
        return
    files = next((each for each in facts.config_maps if each.name == policy.plugin_config), None)
    if files is None:
        yield Trouble(
            f"ClusterPolicy/{policy.name}",
            f"devicePlugin.config.name is {policy.plugin_config}, and there is no ConfigMap of that name",
            "create it, or take devicePlugin.config out of the gpu-operator's values",
        )
        return
    by_variable = {each.env("MIG_STRATEGY") for each in plugins(facts)}
    for node in managed(facts):
        yield from _of_node(node, policy.plugin_default, files, wins="mixed" in by_variable)


def _of_node(node: NodeFact, default: str, files: ConfigMap, *, wins: bool) -> Iterator[Trouble]:
    """`wins`: a variable of the plugin says mixed. Variables come before the file."""
    about = f"Node/{node.name}"
    chosen = node.labels.get(CONFIG_LABEL, default)
    said = f"{CONFIG_LABEL}={chosen}" if CONFIG_LABEL in node.labels else f"the default, {chosen},"
    mixed = [name for name, each in files.configs.items() if each.mig_strategy == "mixed"]
    fix = f"`kubectl label --overwrite nodes {node.name} {CONFIG_LABEL}={mixed[0] if mixed else 'NAME'}`"
    config = files.configs.get(chosen) if chosen else None
    if not chosen:
        if not wins:
            yield Trouble(
                about, f"has no label {CONFIG_LABEL}, and {files} has no default: no slice is advertised", fix
            )
    elif config is None:
        yield Trouble(about, f"its device plugin goes by {said} which {files} does not have", fix)
    elif not config.readable:
        yield Trouble(about, f"its device plugin goes by {said} which is not readable in {files}", f"correct {files}")
    elif config.mig_strategy not in ("mixed", ""):
        yield Trouble(
            about,
            f"its device plugin goes by {said} whose migStrategy is {config.mig_strategy}: "
            + ("slices are advertised because mig.strategy comes before it" if wins else "it advertises no slices"),
            fix,
            Status.WARNING if wins else Status.ERROR,
        )
    elif not config.mig_strategy and not wins:
        yield Trouble(about, f"its device plugin goes by {said} which says nothing on MIG", fix)
    else:
        yield from _sharing(about, said, config, files)


def _sharing(about: str, said: str, config: PluginConfig, files: ConfigMap) -> Iterator[Trouble]:
    if config.mps:
        yield Trouble(
            about,
            f"{said} shares {', '.join(config.mps)} by MPS: the device plugin does not start so with mixed",
            f"take sharing.mps out of {files}",
        )
    if multiplied := [each for each in config.time_slicing if is_mig_resource(each)]:
        yield Trouble(
            about,
            f"{said} gives {', '.join(multiplied)} to several pods at once: CDMO counts each slice as one",
            f"take sharing.timeSlicing of MIG resources out of {files}",
            Status.WARNING,
        )


CHECKS = (
    Check(
        "plugin-config",
        "the device plugin's configuration advertises slices on labelled Nodes",
        (Source.NODES, Source.CLUSTER_POLICIES, Source.CONFIG_MAPS, Source.DAEMON_SETS),
        _config,
    ),
)
