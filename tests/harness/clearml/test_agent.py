"""Installing clearml-agent into the cache."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cdmo_harness.clearml.agent import ClearmlAgent
from cdmo_harness.clearml.errors import AgentMissing

from tests.fakes.steps import ToldSteps

# The first of these tests on a machine downloads about 25 MB.
pytestmark = pytest.mark.timeout(300)


def test_the_real_agent_is_there_with_a_kubectl(agent: ClearmlAgent) -> None:
    code = "from clearml_agent.version import __version__; print(__version__)"
    told = subprocess.run([agent.python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "3.0.3"
    client = subprocess.run([agent.kubectl, "version", "--client"], capture_output=True, text=True, check=True)
    assert "Client Version: v1." in client.stdout


def test_an_agent_that_is_there_is_not_installed_again(agent: ClearmlAgent) -> None:
    steps = ToldSteps()
    again = ClearmlAgent.ready(agent.folder.parent, environment={}, progress=steps)
    assert (again, steps.titles) == (agent, [])


def test_an_installation_that_fails_says_so_and_is_not_taken_for_complete(tmp_path: Path) -> None:
    steps = ToldSteps()
    # No registry, and a folder of wheels that does not exist: nothing can be found.
    offline = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "none")}
    with pytest.raises(AgentMissing, match="cannot be installed: ERROR: No matching distribution") as failure:
        ClearmlAgent.ready(tmp_path, environment=offline, progress=steps)
    assert "registry has to be reachable" in failure.value.hint
    assert steps.titles == ["installing clearml-agent"]
    assert list(tmp_path.glob("clearml-*/complete")) == []
