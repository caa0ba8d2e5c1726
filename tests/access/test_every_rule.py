"""No rule of the policies is without an attack that it alone refuses."""

from __future__ import annotations

from cdmo_harness.manifests import DEPLOY, documents

from tests.access import test_agent_elsewhere, test_agent_node, test_agent_witness, test_controller
from tools.generate_access import messages


def refusals(path: str) -> list[str]:
    """What one policy says when it refuses, a sentence a rule."""
    (policy,) = (each for each in documents(DEPLOY / path) if each["kind"] == "ValidatingAdmissionPolicy")
    return messages(policy)


def sentences(*modules: object) -> list[str]:
    """What the tests of these modules expect to be told."""
    names = [(module, name) for module in modules for name in vars(module) if name.isupper()]
    return [value for module, name in names if isinstance(value := getattr(module, name), str)]


def test_every_rule_for_agents_is_attacked() -> None:
    expected = sentences(test_agent_node, test_agent_elsewhere, test_agent_witness)
    assert [rule for rule in refusals("policy/agent.yaml") if not any(each in rule for each in expected)] == []


def test_every_rule_for_the_controller_is_attacked() -> None:
    expected = sentences(test_controller)
    assert [rule for rule in refusals("policy/controller.yaml") if not any(each in rule for each in expected)] == []
