"""The table of rights: every verb has its reason, every reason its verb, and the page is what deploy/ makes."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

import pytest

from tools.generate_access import (
    ACCOUNTS,
    HOOKS,
    POLICIES,
    RBAC,
    TARGET,
    Grant,
    documents,
    grants,
    messages,
    page,
    rows,
)
from tools.generated import NotMade

OBJECTS = [*documents(RBAC), *documents(HOOKS)]
POLICY_OBJECTS = list(documents(POLICIES))
REASONS = tomllib.loads((RBAC / "reasons.toml").read_text())


def test_the_committed_page_is_what_the_manifests_make() -> None:
    assert TARGET.read_text() == page(OBJECTS, REASONS, POLICY_OBJECTS)


@pytest.mark.parametrize("account", ACCOUNTS)
def test_every_right_is_a_line_of_the_page(account: str) -> None:
    text = TARGET.read_text()
    granted = [each for each in grants(OBJECTS) if each.account == account]
    assert granted
    for each in granted:
        lines = [line for line in text.splitlines() if line.startswith(f"| `{each.kind}` |")]
        assert any(each.verb in line.split("|")[3] and each.namespace in line for line in lines), each


def widened(**rule: list[str]) -> list[dict[str, Any]]:
    """The objects with one more rule for agents."""
    objects = copy.deepcopy(OBJECTS)
    role = next(each for each in objects if (each["kind"], each["metadata"]["name"]) == ("ClusterRole", "cdmo-agent"))
    role["rules"].append(rule)
    return objects


def test_a_verb_without_a_reason_is_an_error() -> None:
    objects = widened(apiGroups=[""], resources=["secrets"], verbs=["get"])
    with pytest.raises(NotMade, match="cdmo-agent may get secrets, and nothing says why"):
        page(objects, REASONS, POLICY_OBJECTS)


def test_a_reason_without_its_verb_is_an_error() -> None:
    reasons = {**REASONS, "cdmo-agent": {**REASONS["cdmo-agent"], "secrets": {"get": "Because."}}}
    with pytest.raises(NotMade, match="cdmo-agent has no 'get' on secrets"):
        page(OBJECTS, reasons, POLICY_OBJECTS)


def test_an_account_that_the_page_does_not_know_is_an_error() -> None:
    with pytest.raises(NotMade, match="cdmo-stranger"):
        page(OBJECTS, {**REASONS, "cdmo-stranger": {}}, POLICY_OBJECTS)


def test_a_policy_that_the_page_does_not_know_is_an_error() -> None:
    with pytest.raises(NotMade, match="cdmo-probe"):
        page(OBJECTS, REASONS, [each for each in POLICY_OBJECTS if each["metadata"]["name"] != "cdmo-probe"])


def test_one_right_in_two_places_is_two_lines() -> None:
    granted = [Grant("a", place, "", "events", "", "create") for place in ("one", "two")]
    made = rows("a", granted, {"events": {"create": "To tell."}})
    assert [each.where for each in made] == ["namespace `one`", "namespace `two`"]


def test_no_role_has_a_wildcard() -> None:
    assert not [each for each in grants(OBJECTS) if "*" in (each.group, each.resource, each.verb)]


def test_every_refusal_of_the_policies_is_on_the_page() -> None:
    said = [one for each in POLICY_OBJECTS if "validations" in each["spec"] for one in messages(each)]
    text = TARGET.read_text()
    assert len(said) > 20
    assert [one for one in said if one not in text] == []
