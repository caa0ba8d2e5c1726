"""Where the rules of pods about other pods let a pod run: topology spread, required affinity, anti-affinity.

As the scheduler's plugins PodTopologySpread, InterPodAffinity and (for claims that only one pod may use)
VolumeRestrictions judge, in Kubernetes 1.37. A domain is the set of nodes with equal values of one label.

    relations = Relations(((node, its_pods), ...), namespace_labels)
    if relations.concerns(pod): relations.obstacle(pod, node)
    relations.place(pod, "node-1")        from now on it counts as being there

Nothing is counted before it is asked for. Pods of one workload share a `_Rules`: counts by domain, brought up to date
with what was placed and taken back since they were last used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.names import REPARTITIONING_TAINT
from cdmo.model.relations import PodTerm, SpreadRule
from cdmo.model.selectors import LabelSelector, selects
from cdmo.planner.eligible import Bar, Obstacle, bars, kind_of, selected, signature, sorts_of

_NAMESPACE_NAME = "kubernetes.io/metadata.name"  # a label that every namespace carries

Domain: TypeAlias = tuple[str, str]  # a node label and its value
_Meaning: TypeAlias = tuple[Sequence["_Spread"], Sequence[PodTerm], Sequence[PodTerm]]
"""What some pods are to a rule's owner: spread rules that count them, its affinity, terms that keep it from them."""


class Relations:
    """Who is where, and what that means for pods to come."""

    def __init__(
        self,
        hosts: Iterable[tuple[NodeInfo, Iterable[PodInfo]]],
        namespaces: Mapping[str, Mapping[str, str]],
    ) -> None:
        """`hosts`: every Node of the cluster, with the unfinished pods bound to it. `namespaces`: their labels."""
        self._hosts = list(hosts)
        self._namespaces = namespaces
        self._moves: list[tuple[PodInfo, str, int]] = []  # pods placed (+1) and taken back (-1), in order
        self._nodes: dict[str, NodeInfo] = {}
        self._groups: list[_Group] | None = None
        self._repelling: dict[PodTerm, Counter[str]] | None = None  # anti-affinity of pods: how often on which node
        self._against: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[PodTerm, ...]] = {}
        self._claims: Counter[tuple[str, str]] | None = None
        self._rules: dict[object, _Rules] = {}
        self._latest: tuple[PodInfo, _Rules] | None = None  # one pod is asked about many nodes in a row

    def concerns(self, pod: PodInfo) -> bool:
        """Whether any rule about other pods, its own or theirs, could bar the pod anywhere."""
        if pod.spread or pod.affinity or pod.anti_affinity or pod.exclusive_claims:
            return True
        return bool(self._terms_against(pod))

    def obstacle(self, pod: PodInfo, node: NodeInfo) -> Obstacle | None:
        """What keeps the pod from the node because of who is where, or None."""
        if self._latest is None or self._latest[0] is not pod:
            if not self.concerns(pod):
                return None
            self._latest = (pod, self._rules_of(pod))
        for claim in pod.exclusive_claims:
            if self._uses()[pod.key.namespace, claim] > 0:
                return Obstacle(Bar.OTHERS, f"another pod uses its claim {claim}, which one pod alone may use")
        rules = self._latest[1]
        if rules.position < len(self._moves):
            rules.catch_up(self._moves)
        return rules.obstacle(node)

    def place(self, pod: PodInfo, node_name: str) -> None:
        """From now on the pod counts as being on the node."""
        self._move(pod, node_name, 1)

    def unplace(self, pod: PodInfo, node_name: str) -> None:
        """Undo `place`."""
        self._move(pod, node_name, -1)

    def node(self, name: str) -> NodeInfo | None:
        """A node of the cluster by name."""
        if not self._nodes:
            self._nodes.update((node.name, node) for node, _ in self._hosts)
        return self._nodes.get(name)

    def nodes(self) -> Iterable[NodeInfo]:
        """Every node of the cluster."""
        return (node for node, _ in self._hosts)

    def groups(self) -> list[_Group]:
        """The pods that were there at first, by what rules can tell them apart."""
        if self._groups is None:
            found: dict[object, _Group] = {}
            seen: dict[object, _Group] = {}  # by identity of the labels, which pods of a workload share: no hashing
            for node, pods in self._hosts:
                for pod in pods:
                    group = seen.get((pod.key.namespace, id(pod.labels), pod.terminating))
                    if group is None:
                        group = found.setdefault((pod.key.namespace, pod.labels, pod.terminating), _Group(pod))
                        seen[pod.key.namespace, id(pod.labels), pod.terminating] = group
                    group.nodes[node.name] = group.nodes.get(node.name, 0) + 1
            self._groups = list(found.values())
        return self._groups

    def means(self, term: PodTerm, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a term is about pods with these labels in this namespace."""
        if not selects(term.selector, labels):
            return False
        if namespace in term.namespaces:
            return True
        if term.namespace_selector is None:
            return False
        known = self._namespaces.get(namespace, {_NAMESPACE_NAME: namespace})
        return selects(term.namespace_selector, known)

    def repelling(self) -> dict[PodTerm, Counter[str]]:
        """Terms of anti-affinity of pods that are on nodes, with how often each stands on which node."""
        if self._repelling is None:
            self._repelling = {}
            for node, pods in self._hosts:
                for pod in pods:
                    if pod.anti_affinity:
                        self._repel(pod, node.name, 1)
            for pod, name, change in self._moves:
                self._repel(pod, name, change)
        return self._repelling

    def _terms_against(self, pod: PodInfo) -> tuple[PodTerm, ...]:
        repelling = self.repelling()
        if not repelling:
            return ()
        key = (pod.key.namespace, pod.labels)
        found = self._against.get(key)
        if found is None:
            labels = dict(pod.labels)
            found = tuple(term for term in repelling if self.means(term, pod.key.namespace, labels))
            self._against[key] = found
        return found

    def _repel(self, pod: PodInfo, node_name: str, change: int) -> None:
        if self._repelling is None:
            return
        for term in pod.anti_affinity:
            if term not in self._repelling:
                self._repelling[term] = Counter()
                self._against.clear()
            self._repelling[term][node_name] += change

    def _move(self, pod: PodInfo, node_name: str, change: int) -> None:
        self._moves.append((pod, node_name, change))
        self._repel(pod, node_name, change)
        if self._claims is not None:
            for claim in pod.claims:
                self._claims[pod.key.namespace, claim] += change

    def _uses(self) -> Counter[tuple[str, str]]:
        """How many pods use a claim, by namespace and name."""
        if self._claims is None:
            self._claims = Counter(
                (p.key.namespace, each) for _, pods in self._hosts for p in pods for each in p.claims
            )
            for pod, _, change in self._moves:
                for claim in pod.claims:
                    self._claims[pod.key.namespace, claim] += change
        return self._claims

    def _rules_of(self, pod: PodInfo) -> _Rules:
        chosen = (pod.node_selector, pod.node_affinity, pod.tolerations) if pod.spread else ()
        key = (pod.key.namespace, pod.labels, pod.spread, pod.affinity, pod.anti_affinity, chosen)
        rules = self._rules.get(key)
        if rules is None:
            rules = self._rules[key] = _Rules(self, pod, len(self._moves), self._terms_against(pod))
        return rules


class _Group:
    """Pods that no rule can tell apart, and how many of them are on which node."""

    __slots__ = ("labels", "namespace", "nodes", "terminating")

    def __init__(self, pod: PodInfo) -> None:
        self.namespace = pod.key.namespace
        self.labels = dict(pod.labels)
        self.terminating = pod.terminating
        self.nodes: dict[str, int] = {}


class _Spread:
    """One spread rule: how many pods that it counts are in each domain that it looks at."""

    def __init__(self, rule: SpreadRule, pod: PodInfo, nodes: Sequence[NodeInfo]) -> None:
        """`nodes`: those that carry the labels of all spread rules of the pod."""
        self.rule = rule
        self.itself = int(selects(rule.selector, dict(pod.labels)))
        self._domain_of = {node.name: node.labels[rule.key] for node in _looked_at(rule, pod, nodes)}
        self._counts = dict.fromkeys(self._domain_of.values(), 0)
        self._levels = Counter({0: len(self._counts)})  # how many domains have so many pods
        self._least = 0
        self._known: dict[str, Obstacle] = {}

    def counts(self, namespace: str, own_namespace: str, labels: Mapping[str, str], terminating: bool) -> bool:
        """Whether the rule counts such a pod. A selector of everything counts none: that is how it is."""
        return (
            namespace == own_namespace
            and not terminating
            and bool(self.rule.selector)
            and selects(self.rule.selector, labels)
        )

    def add(self, node_name: str, change: int) -> None:
        """Count pods on a node in or out."""
        domain = self._domain_of.get(node_name)
        if domain is None:
            return
        old = self._counts[domain]
        new = self._counts[domain] = old + change
        self._levels[old] -= 1
        self._levels[new] += 1
        if new < self._least:
            self._least = new
        elif not self._levels[self._least]:
            self._least = min(level for level, domains in self._levels.items() if domains)
        self._known.clear()

    def obstacle(self, node: NodeInfo) -> Obstacle | None:
        """What keeps one more pod from the node's domain, or None."""
        domain = node.labels.get(self.rule.key)
        if domain is None:
            return Obstacle(Bar.NEVER, f"it has no label {self.rule.key}, over which the pod spreads")
        least = 0 if len(self._counts) < self.rule.min_domains else self._least
        if self._counts.get(domain, 0) + self.itself - least <= self.rule.max_skew:
            return None
        if domain not in self._known:
            self._known[domain] = Obstacle(Bar.OTHERS, self._sentence(domain, least))
        return self._known[domain]

    def _sentence(self, domain: str, least: int) -> str:
        key, most = self.rule.key, self.rule.max_skew
        have = self._counts.get(domain, 0)
        if len(self._counts) < self.rule.min_domains:
            return (
                f"{key}={domain} already has {have} of its pods, and its topology spread allows no more than {most}"
                f" before there are {self.rule.min_domains} values of {key} to choose from"
            )
        other = min(self._counts, key=lambda each: (self._counts[each], each), default="")
        return (
            f"{key}={domain} already has {have} of its pods and {key}={other} {least}:"
            f" its topology spread allows a difference of {most}"
        )


class _Rules:
    """All rules about other pods that concern pods of one workload."""

    def __init__(self, relations: Relations, pod: PodInfo, position: int, against: Iterable[PodTerm]) -> None:
        """`against`: terms of pods on nodes that are about this one. They, like `groups`, are as of `position`."""
        self._relations = relations
        self._pod = pod
        self._labels = dict(pod.labels)
        self.position = 0  # how many moves are counted; groups are as of the beginning
        self._meanings: dict[object, _Meaning | None] = {}
        self._wanted: Counter[Domain] = Counter()  # pods that its affinity asks for, by domain
        self._unwanted: Counter[Domain] = Counter()  # pods that its anti-affinity is about
        self._refused: Counter[Domain] = Counter()  # pods whose anti-affinity is about it
        self._said: dict[object, Obstacle] = {}
        self._spread = self._spreads()
        self._suits_itself = self._means_all(pod.key.namespace, self._labels)
        if pod.spread or pod.affinity or pod.anti_affinity:
            for group in relations.groups():
                meaning = self._meaning(group.namespace, group.labels, group.terminating)
                for name, count in group.nodes.items() if meaning else ():
                    self._count(meaning, name, count)
        self._refused_keys: dict[str, None] = {}
        for term in against:
            self._refused_keys[term.key] = None
            for name, count in relations.repelling()[term].items():
                self._shift(self._refused, term.key, name, count)
        # Repelling terms are known up to now, everything else from the beginning.
        self._refused_from = position

    def _spreads(self) -> list[_Spread]:
        keys = [rule.key for rule in self._pod.spread]
        if not keys:
            return []
        nodes = [node for node in self._relations.nodes() if all(key in node.labels for key in keys)]
        return [_Spread(rule, self._pod, nodes) for rule in self._pod.spread]

    def _meaning(self, namespace: str, labels: Mapping[str, str], terminating: bool) -> _Meaning | None:
        """Which rules count such pods; None if none does."""
        own = self._pod.key.namespace
        spread = [one for one in self._spread if one.counts(namespace, own, labels, terminating)]
        unwanted = [term for term in self._pod.anti_affinity if self._relations.means(term, namespace, labels)]
        found = (spread, self._pod.affinity if self._means_all(namespace, labels) else (), unwanted)
        return found if any(found) else None

    def _count(self, meaning: _Meaning | None, name: str, change: int) -> None:
        spread, wanted, unwanted = meaning or ((), (), ())
        for one in spread:
            one.add(name, change)
        for term in wanted:
            self._shift(self._wanted, term.key, name, change)
        for term in unwanted:
            self._shift(self._unwanted, term.key, name, change)

    def _means_all(self, namespace: str, labels: Mapping[str, str]) -> bool:
        terms = self._pod.affinity
        return bool(terms) and all(self._relations.means(term, namespace, labels) for term in terms)

    def _shift(self, counts: Counter[Domain], key: str, node_name: str, change: int) -> None:
        node = self._relations.node(node_name)
        value = None if node is None else node.labels.get(key)
        if value is not None:
            counts[key, value] += change
            if not counts[key, value]:
                del counts[key, value]

    def catch_up(self, moves: Sequence[tuple[PodInfo, str, int]]) -> None:
        """Count what was placed and taken back since."""
        for number in range(self.position, len(moves)):
            pod, name, change = moves[number]
            key = (pod.key.namespace, pod.labels, pod.terminating)
            if key not in self._meanings:
                self._meanings[key] = self._meaning(pod.key.namespace, dict(pod.labels), pod.terminating)
            self._count(self._meanings[key], name, change)
            if number >= self._refused_from:
                for term in pod.anti_affinity:
                    if self._relations.means(term, self._pod.key.namespace, self._labels):
                        self._refused_keys[term.key] = None
                        self._shift(self._refused, term.key, name, change)
        self.position = len(moves)

    def obstacle(self, node: NodeInfo) -> Obstacle | None:
        """What keeps the pod from the node, or None."""
        for spread in self._spread:
            found = spread.obstacle(node)
            if found is not None:
                return found
        return self._affinity(node) or self._anti_affinity(node)

    def _affinity(self, node: NodeInfo) -> Obstacle | None:
        terms = self._pod.affinity
        for term in terms:
            if term.key not in node.labels:
                return self._say(Bar.NEVER, "it has no label {}, by which the pod's affinity goes", term.key)
        for term in terms:
            domain = (term.key, node.labels[term.key])
            # The first of pods that want each other's company may start anywhere.
            if domain not in self._wanted and (self._wanted or not self._suits_itself):
                return self._say(Bar.OTHERS, "the pod's affinity asks for pods with {2} in {0}={1}", *domain, term)
        return None

    def _anti_affinity(self, node: NodeInfo) -> Obstacle | None:
        for term in self._pod.anti_affinity:
            domain = (term.key, node.labels.get(term.key, ""))
            if term.key in node.labels and domain in self._unwanted:
                sentence = "the pod's anti-affinity is about pods with {2}, as run in {0}={1}"
                return self._say(Bar.OTHERS, sentence, *domain, term)
        for key in self._refused_keys:
            domain = (key, node.labels.get(key, ""))
            if key in node.labels and domain in self._refused:
                return self._say(Bar.OTHERS, "the anti-affinity of pods in {}={} keeps it away", *domain)
        return None

    def _say(self, bar: Bar, sentence: str, *words: str | PodTerm) -> Obstacle:
        """An obstacle in words, made once: thousands of nodes may be in the same domain."""
        found = self._said.get((sentence, words))
        if found is None:
            texts = [word if isinstance(word, str) else _text(word.selector) for word in words]
            found = self._said[sentence, words] = Obstacle(bar, sentence.format(*texts))
        return found


def _looked_at(rule: SpreadRule, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Iterable[NodeInfo]:
    """The nodes whose domains the rule counts."""
    known: dict[object, bool] = {}
    for node, sort in zip(nodes, sorts_of(signature(kind_of(pod)), nodes), strict=True):
        if sort not in known:
            known[sort] = _looks_at(rule, pod, node)
        if known[sort]:
            yield node


def _looks_at(rule: SpreadRule, pod: PodInfo, node: NodeInfo) -> bool:
    if rule.honor_affinity and not selected(pod, node):
        return False
    return not rule.honor_taints or not any(
        bars(pod, taint) for taint in node.taints if taint.key != REPARTITIONING_TAINT
    )


def _text(selector: LabelSelector) -> str:
    return " and ".join(map(str, selector or ())) or "any label"
