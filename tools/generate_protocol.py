"""Write the page of what each guard of the safety protocol is for, as the model in tests/protocol finds it.

    python -m tools.generate_protocol --write    write docs/reference/protocol.md
    python -m tools.generate_protocol --check    write nothing; exit 1 if the committed page is another one

It explores every world of the catalogue: some twenty seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol.catalogue import CASES, CLAIMS, RISKS, Result, at_risk, claimed, without_guard
from tests.protocol.flow import FLOW
from tests.protocol.reading import numbered
from tests.protocol.rules import WHERE
from tools.generated import REPOSITORY, write_or_check

TARGET = REPOSITORY / "docs" / "reference" / "protocol.md"

HEAD = """<!-- Generated from the model in tests/protocol by tools/generate_protocol.py; do not edit. -->

# The safety protocol, explored

How a node's layout is changed without harm to a pod is a protocol between the agent, the API servers, the scheduler,
the kubelet and the device plugin. It is written down as small state machines in `tests/protocol`, and a program goes
through every order in which their moves can happen. Harm is: a busy slice is destroyed; a pod that was bound fails
admission because of CDMO; a pod runs on a device that is gone; a node never gets back to work, unfenced and offering
every slice it has. Traces of the real agent, also with a failure or a kill at each of its calls, are checked to be
paths of the model's agent.

"""

CLAIMS_HEAD = """## Explored whole, without harm

A world says what there is and what can happen: at any moment, any number of times. All guards are on.

| World | States | Moves |
|---|---:|---:|
"""

GUARDS_HEAD = """## What each guard is for

Without it this happens, after so many moves at the least, in the smallest world that shows it. One guard is missing
here: the device ids in pods' status only save waiting, for a running pod that shows no device holds every slice of
its profile anyway.

| Guard | Where | Without it | Moves |
|---|---|---|---:|
"""

ASSUMED = """## What is assumed

- Within the settling time of the fence (`FenceLimits.settle`) binds that were admitted before it are in the store.
  Where that is not so, it is as without the guard "settle before the list of pods".
- Pods are placed by one scheduler, the one that is asked what it knows (`--scheduler`).
- What the kubelet counted before the device plugin's reload is in the Node's status when the counts are looked at
  once more. Where it is not, see the end of this page's tables.
- Every API server that can admit a bind is listed by the EndpointSlices of `default/kubernetes`. One that is not is
  as one that is not asked: see "prove the fence at every API server".
- A kubelet that only a restart heals is restarted by an administrator, whom the agent asks. With the plugin held over
  the gap nobody has to, unless the hold comes too late.
- A process that uses a slice shows in the driver, or its pod in the kubelet.
- Whoever binds pods past the scheduler looks for room as it does.

"""

RISKS_HEAD = """## What the protocol does not stand up to

| What happens | Harm | Moves |
|---|---|---:|
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join((*_claims(), *_guards(), ASSUMED, *_risks(), *_shortest(), *_steps()))


def _claims() -> Iterator[str]:
    yield CLAIMS_HEAD
    for claim in CLAIMS:
        result = claimed(claim)
        if result.harm is not None:
            raise SystemExit(f"{claim.name}: {result.harm}\n{numbered(result.trace)}")
        yield f"| {claim.name} | {result.states:,} | {result.moves:,} |\n"
    yield "\n"


def _guards() -> Iterator[str]:
    yield GUARDS_HEAD
    for case in CASES:
        result = without_guard(case)
        if result.harm is not case.harm:
            raise SystemExit(f"without: {case.guard}: {result.harm}, not {case.harm}")
        yield f"| {case.guard} | `{WHERE[case.guard]}` | {_harm(result)} | {len(result.trace)} |\n"
    yield "\n"


def _risks() -> Iterator[str]:
    yield RISKS_HEAD
    for risk in RISKS:
        result = at_risk(risk)
        yield f"| {risk.name} | {_harm(result)} | {len(result.trace)} |\n"
    yield "\n"


def _shortest() -> Iterator[str]:
    """One counter-example in full: the shortest of those that end in harm to a pod."""
    case = min(
        CASES, key=lambda each: (without_guard(each).harm is not CASES[1].harm, len(without_guard(each).trace))
    )
    yield f'## One of them in full\n\nWithout "{case.guard}":\n\n```\n'
    yield f"{numbered(without_guard(case).trace)}\n```\n\n"
    yield "The others: `pytest tests/protocol/test_guards.py -rP`.\n\n"


def _steps() -> Iterator[str]:
    yield "## The agent's steps\n\nEach with those that may follow; a kill at any of them leads to `idle`.\n\n```\n"
    width = max(map(len, FLOW))
    for step, following in FLOW.items():
        yield f"{step:{width}}  {' '.join(following)}\n"
    yield "```\n"


def _harm(result: Result) -> str:
    return str(result.harm) if result.harm is not None else "nothing"


if __name__ == "__main__":
    raise SystemExit(
        write_or_check(
            "The page of what each guard of the safety protocol is for.", lambda: {TARGET: page()}, "the model"
        )
    )
