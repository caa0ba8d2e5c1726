"""The agent from its journal on: apply, reload, publish, unfence."""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol.cluster import may_change_label, with_label, with_offer
from tests.protocol.flow import first_of_lower, give_up, proofs, said, to, unproved
from tests.protocol.rules import Guard, Rules
from tests.protocol.state import BLANK, BUSY, RUNS, SLICES, Agent, Harm, Link, Memory, Move, Plan, State, masks

# --- journal and apply ------------------------------------------------------------------------------------------


def write_journal(rules: Rules, state: State) -> Iterator[Move]:
    memory = state.agent.memory
    then = "apply.step" if memory.plan != Plan() else after_apply(rules)
    journal = Guard.JOURNAL in rules.guards or state.agent.journal
    written = state._replace(agent=Agent(then, journal, memory))
    yield Move("agent: journal.write", True, written)
    yield from give_up(rules, "agent: journal.write fails, gives up", state, written)


def after_apply(rules: Rules) -> str:
    if Guard.RELOAD_FIRST not in rules.guards:
        return "publish.write"
    return "reload.hang_up" if Guard.RELOAD in rules.guards else "publish.write"


def apply(rules: Rules, state: State) -> Iterator[Move]:
    """The next action, destroys first. A failure takes back what was done."""
    plan, node = state.agent.memory.plan, state.node
    index, action = min(
        ((each, plan.of(each)) for each in SLICES if plan.of(each) in ("d", "c")),
        key=lambda each: (each[1] == "c", each),
    )
    undo = to(state, "apply.undo", Memory(plan=plan._replace(undoing=True)))
    if action == "d" and rules.world.driver_refuses and masks(state.pods, RUNS) >> index & 1:
        yield Move(f"driver: slice {index} is in use", True, undo)
        return
    if action == "c" and node.slices >> index & 1:
        yield Move(f"driver: slice {index} is there already", True, undo)
        return
    done = _marked(plan, index, action.upper())
    then = "apply.step" if "d" in done or "c" in done else after_apply(rules)
    memory = Memory(plan=done) if then == "apply.step" else BLANK
    slices, harm = node.slices ^ 1 << index, _harm_of(state, index) if action == "d" else None
    by_hand = node.unseen | 1 << index if action == "c" and rules.world.made_by_hand else node.unseen & slices
    after = state._replace(node=node._replace(slices=slices, unseen=by_hand))
    yield Move(f"agent: apply.step, {said(_only(index, action))}", True, to(after, then, memory), harm)
    if rules.world.calls_fail:
        yield Move("driver: the step fails", False, undo)
        for hung in (state, after):  # nobody knows whether it happened; nothing is undone
            yield Move("driver: hangs in the step", False, to(hung, after_apply(rules)))


def _marked(plan: Plan, index: int, action: str) -> Plan:
    return plan._replace(first=action) if index == 0 else plan._replace(second=action)


def _only(index: int, action: str) -> tuple[str, ...]:
    return tuple(action if each == index else "-" for each in SLICES)


def _harm_of(state: State, index: int) -> Harm | None:
    if masks(state.pods, BUSY) >> index & 1:
        return Harm.BUSY_DESTROYED
    return Harm.UNSEEN_DESTROYED if state.node.unseen >> index & 1 else None


def undo(rules: Rules, state: State) -> Iterator[Move]:
    """Back, newest first: what was made goes, what went is made again; a failure leaves it and goes on."""
    plan, node = state.agent.memory.plan, state.node
    done = [(each, plan.of(each)) for each in SLICES if plan.of(each) in ("D", "C")]
    if not done:
        yield Move("agent: apply.undo, nothing is left to take back", True, to(state, after_apply(rules)))
        return
    index, action = max(done, key=lambda each: (each[1] == "C", each))
    memory = Memory(plan=_marked(plan, index, "-"))
    slices = node.slices ^ 1 << index
    after = state._replace(node=node._replace(slices=slices, unseen=node.unseen & slices))
    harm = Harm.BUSY_DESTROYED if action == "C" and masks(state.pods, BUSY) >> index & 1 else None
    yield Move(f"agent: apply.undo, slice {index}", True, to(after, "apply.undo", memory), harm)
    if rules.world.calls_fail:
        yield Move(f"driver: slice {index} cannot be taken back", False, to(state, "apply.undo", memory))


# --- reload and publish -----------------------------------------------------------------------------------------


def hang_up(rules: Rules, state: State) -> Iterator[Move]:
    """SIGHUP, once the plugin serves; one that is in the middle of a reload is waited for."""
    node = state.node
    expecting = Memory(expected=node.slices)
    if node.link == Link.SERVING:
        signalled = state._replace(node=node._replace(link=Link.SIGNALLED))
        yield Move("agent: reload.hang_up", True, to(signalled, "reload.wait", expecting))
    elif node.link == Link.DEAD:
        yield Move("agent: reload.hang_up, there is no plugin", True, to(state, "publish.nothing"))
        yield Move("agent: reload.hang_up, the plugin has not registered", True, to(state, "reload.wait", expecting))
    elif node.link == Link.BROKEN:
        yield Move("agent: reload.hang_up", True, to(state, "reload.wait", expecting))
    yield from _stuck(rules, state, "agent: reload.hang_up fails")


def wait(rules: Rules, state: State) -> Iterator[Move]:
    """On when all is as expected: the lists agree, and there are new sockets for them."""
    node, guards = state.node, rules.guards
    good = {Link.SERVING}
    good |= {Link.SIGNALLED} if Guard.OLD_SOCKETS not in guards else set()
    good |= {Link.BROKEN} if Guard.SOCKETS not in guards else set()
    agrees = node.link in good and node.listed == state.agent.memory.expected
    if agrees or Guard.LISTED not in guards:
        then = "publish.write" if {Guard.RELOAD_FIRST, Guard.PUBLISH} <= guards else "unfence.verify"
        yield Move("agent: reload.wait, all is as expected", True, to(state, then, state.agent.memory))
    hopeless = node.link == Link.SERVING and not agrees  # somebody made slices meanwhile
    yield from _stuck(rules, state, "agent: reload.wait, the plugin does not come back in time", surely=hopeless)


def _stuck(rules: Rules, state: State, text: str, *, surely: bool = False) -> Iterator[Move]:
    """The fence stays up, and the next round tries again."""
    if rules.world.calls_fail or surely:
        keeps = Guard.KEEP_FENCE in rules.guards
        yield Move(text, surely, to(state, "idle" if keeps else "unfence.verify"))


def publish(rules: Rules, state: State) -> Iterator[Move]:
    reloads_now = Guard.RELOAD_FIRST not in rules.guards
    known = Guard.RELOAD in rules.guards and not reloads_now
    count = (state.agent.memory.expected if known else state.node.slices).bit_count()
    node, api = with_offer(state.node, state.api, count)
    then = "reload.hang_up" if reloads_now else "unfence.verify"
    published = state._replace(node=node, api=api)
    memory = state.agent.memory if known else BLANK
    yield Move(f"agent: publish.write, allocatable is {count}", True, to(published, then, memory))
    yield from _still_fenced(rules, "agent: publish.write fails", state, published)


def publish_nothing(rules: Rules, state: State) -> Iterator[Move]:
    """Without a plugin there is nothing to offer; one that comes looks at the GPUs as they are by then."""
    node, api = with_offer(state.node, state.api, 0)
    published = state._replace(node=node, api=api)
    yield Move("agent: publish.nothing, allocatable is 0", True, to(published, "unfence.verify"))
    yield from _still_fenced(rules, "agent: publish.nothing fails", state, published)


def _still_fenced(rules: Rules, text: str, *states: State) -> Iterator[Move]:
    """A call failed, before it did anything or after: the answer alone was lost."""
    for state in states if rules.world.calls_fail else ():
        yield Move(text, False, to(state, "idle"))


# --- unfence ----------------------------------------------------------------------------------------------------


def verify(rules: Rules, state: State) -> Iterator[Move]:
    """Tells of a fence that lapsed; it comes down either way. The code asks for this proof, which changes nothing,
    while the counts are written."""
    harm = Harm.UNREPORTED if not state.api.label and Guard.VERIFY not in rules.guards else None
    compares = {Guard.COMPARE, Guard.RELOAD_FIRST, Guard.RELOAD, Guard.PUBLISH} <= rules.guards
    then, memory = ("unfence.compare", state.agent.memory) if compares else (first_of_lower(rules), BLANK)
    yield Move("agent: unfence.verify", True, to(state, then, memory), harm)
    yield from _still_fenced(rules, "agent: unfence.verify takes too long", state)


def compare(rules: Rules, state: State) -> Iterator[Move]:
    """Once more the counts, if a report that the kubelet had begun before came in after them.

    Where they are as published, the code takes the label off in the same write. Here somebody may come between.
    ASSUMED: what the kubelet had counted before the reload has arrived by now.
    """
    node, count = state.node, state.agent.memory.expected.bit_count()
    if node.report <= count + 1 or rules.world.reports_outlast:
        after, api = with_offer(node, state.api, count)
        text = "agent: unfence.compare" + (f", sets allocatable to {count} again" if node.offered != count else "")
        compared = state._replace(node=after, api=api)
        yield Move(text, True, to(compared, first_of_lower(rules)))
        yield from _still_fenced(rules, "agent: unfence.compare fails", state, compared)


def lower_label(rules: Rules, state: State) -> Iterator[Move]:
    if not state.api.label or may_change_label(rules, state.api):
        lowered = state._replace(api=with_label(state.api, False))
        taint_is_next = Guard.LABEL_FIRST in rules.guards and Guard.PROBE_GONE not in rules.guards
        then = "lower.taint" if taint_is_next else "lower.probe"
        yield Move("agent: lower.label", True, to(lowered, then))
        yield from _still_fenced(rules, "agent: lower.label fails", state, lowered)


def lower_probe(rules: Rules, state: State) -> Iterator[Move]:
    every = len(state.api.servers)
    end = "unfence.forget" if state.agent.journal else "idle"
    then = "lower.taint" if Guard.LABEL_FIRST in rules.guards else end
    yield from proofs(rules, state, "agent: lower.probe, one API server binds", up=False, enough=every, then=then)
    if rules.world.calls_fail:
        late = state._replace(api=unproved(rules, state.api))
        failed = to(late, "lower.taint", Memory(failed=True))
        yield Move("agent: lower.probe, no proof in time", False, failed)


def lower_taint(rules: Rules, state: State) -> Iterator[Move]:
    untainted = state._replace(api=state.api._replace(tainted=False))
    if Guard.LABEL_FIRST not in rules.guards:
        then = "lower.label"
    else:
        then = "unfence.forget" if state.agent.journal and not state.agent.memory.failed else "idle"
    yield Move("agent: lower.taint", True, to(untainted, then))
    yield from _still_fenced(rules, "agent: lower.taint fails", state, untainted)


def forget(rules: Rules, state: State) -> Iterator[Move]:
    yield Move("agent: unfence.forget, the journal is gone", True, state._replace(agent=Agent("idle")))
    yield from _still_fenced(rules, "agent: unfence.forget fails", state)
