"""The node without the agent: the kubelet, the device plugin, and people with a shell on it."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from tests.protocol.cluster import become, with_offer
from tests.protocol.rules import Guard, Rules
from tests.protocol.state import (
    AWAITED,
    BOUND,
    GHOST,
    HELD,
    HIDDEN,
    HOLDS,
    NONE,
    SLICES,
    STARTING,
    WAITING,
    Api,
    Harm,
    Link,
    Node,
    Pods,
    masks,
)


class NodeMove(NamedTuple):
    """A move on the node."""

    text: str
    surely: bool
    pods: Pods
    node: Node
    harm: Harm | None = None


class StatusMove(NamedTuple):
    """The kubelet writes the Node's status."""

    text: str
    surely: bool
    node: Node
    api: Api


@cache
def kubelet(rules: Rules, pods: Pods, node: Node) -> tuple[NodeMove, ...]:
    """It sees a bound pod at any later moment and admits it on any free device it lists; a pod that it cannot give a
    device fails for good. It forgets and learns again whom it serves when it restarts."""
    moves = []
    for index, pod in enumerate(pods):
        if pod in (BOUND, AWAITED):
            moves += _admissions(rules, pods, index, node)
        elif pod == GHOST:
            moves += _ghostly(rules, pods, index, node)
        elif STARTING <= pod < STARTING + 2:
            running = become(rules, pods, index, HOLDS + pod % 2)
            moves.append(NodeMove(_STARTS[pod % 2], True, running, node))
    if node.forgot:
        moves.append(NodeMove("kubelet: has heard of its pods again", True, pods, node._replace(forgot=False)))
    if rules.world.kubelet_restarts and node.link != Link.DEAD:
        moves.append(NodeMove("kubelet: restarts", False, pods, _restarted(rules, node)))
    return tuple(moves)


_STARTS = tuple(f"pod: the one on slice {each} starts its process" for each in SLICES)
_ADMITS = tuple(f"kubelet: admits the pod on slice {each}" for each in SLICES)


def _admissions(rules: Rules, pods: Pods, index: int, node: Node) -> list[NodeMove]:
    """What may become of one bound pod. A plugin that ended by itself, or a kubelet that restarted, fails pods too;
    that is nobody's protocol."""
    if node.link == Link.DEAD:
        failed = become(rules, pods, index, WAITING)
        return [NodeMove("kubelet: fails the pod, for no plugin serves it", True, failed, node)]
    if node.link not in (Link.SERVING, Link.SIGNALLED):
        return [NodeMove("kubelet: fails the pod (UnexpectedAdmissionError)", True, pods, node, Harm.FAILED)]
    free = node.listed & ~masks(pods, HELD)
    if not free:
        return [NodeMove("kubelet: fails the pod, no device is free", True, pods, node, Harm.FAILED)]
    moves = []
    for device in SLICES:
        if free >> device & 1:
            harm = None if node.slices >> device & 1 else Harm.DEAD_DEVICE
            kinds = [STARTING if rules.world.slow_start else HOLDS, *[HIDDEN] * rules.world.init_only]
            for kind in kinds:
                admitted = become(rules, pods, index, kind + device)
                moves.append(NodeMove(_ADMITS[device], True, admitted, node, harm))
    return moves


def _ghostly(rules: Rules, pods: Pods, index: int, node: Node) -> list[NodeMove]:
    """A pod that is gone from the store is admitted all the same, if the kubelet has not heard of that yet."""
    heard = become(rules, pods, index, WAITING)
    moves = [NodeMove("kubelet: hears that the pod is gone", True, heard, node)]
    free = node.listed & ~masks(pods, HELD) if node.link in (Link.SERVING, Link.SIGNALLED) else NONE
    for device in SLICES:
        if free >> device & 1:
            text = f"kubelet: admits the deleted pod on slice {device}"
            moves.append(NodeMove(text, False, become(rules, pods, index, HOLDS + device), node))
    return moves


def _restarted(rules: Rules, node: Node) -> Node:
    """The plugin notices kubelet.sock and registers again, some time later."""
    return node._replace(link=Link.DEAD, listed=NONE, forgot=rules.world.forgetful, report=0)


@cache
def status(rules: Rules, node: Node, api: Api) -> tuple[StatusMove, ...]:
    """Every 10 s the kubelet sets allocatable to what it lists, whatever anybody else wrote there."""
    moves = []
    count = node.listed.bit_count()
    if node.offered != count:
        moves.append(StatusMove(f"kubelet: sets allocatable to {count}", True, *with_offer(node, api, count)))
    if rules.world.slow_status:
        if not node.report:
            taken = node._replace(report=count + 1)
            moves.append(StatusMove(f"kubelet: is about to report {count} devices", False, taken, api))
        else:
            written, heard = with_offer(node, api, node.report - 1)
            text = f"kubelet: its report of {node.report - 1} devices arrives"
            moves.append(StatusMove(text, True, written._replace(report=0), heard))
    return tuple(moves)


@cache
def plugin(rules: Rules, pods: Pods, node: Node) -> tuple[NodeMove, ...]:
    """A reload as the kubelet sees it: every device vanishes and comes back. Held, the plugin registers only when the
    kubelet has noticed the gap; else it may come too early, and only a restart of the kubelet heals that."""
    world, link, moves = rules.world, node.link, []

    def to(text: str, surely: bool, link: int, listed: int) -> None:
        moves.append(NodeMove(text, surely, pods, node._replace(link=link, listed=listed)))

    if link == Link.SIGNALLED:
        to("plugin: takes up the signal, its sockets are gone", True, Link.CLOSED, node.listed)
    elif link == Link.CLOSED:
        to("kubelet: notices the end of the connections, lists nothing", True, Link.GONE, NONE)
        if Guard.HOLD not in rules.guards:
            to("plugin: registers before the kubelet noticed", True, Link.BROKEN, node.listed)
        elif world.late_hold:
            to("plugin: registers too early although held", False, Link.BROKEN, node.listed)
    elif link in (Link.GONE, Link.DEAD):
        to("plugin: registers what the driver has", True, Link.SERVING, node.slices)
    elif link == Link.BROKEN and world.administrator:
        moves.append(NodeMove("administrator: restarts the kubelet", True, pods, _restarted(rules, node)))
    if world.plugin_dies and link not in (Link.DEAD, Link.BROKEN):
        to("plugin: dies", False, Link.DEAD, NONE)
    if world.made_by_hand:
        for each in SLICES:
            if not node.slices >> each & 1:
                made = node._replace(slices=node.slices | 1 << each, unseen=node.unseen | 1 << each)
                moves.append(NodeMove(f"somebody: makes slice {each} beside CDMO", False, pods, made))
        if node.unseen:
            seen = node._replace(unseen=NONE)
            moves.append(NodeMove("controller: bases its spec on every slice there is", True, pods, seen))
    return tuple(moves)
