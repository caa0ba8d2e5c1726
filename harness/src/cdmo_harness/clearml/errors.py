"""Failures of the ClearML part of the harness.

ClearmlError
├── AgentMissing        the clearml-agent distribution cannot be had or does not run
├── BadQueues           the values file is not what the agent's chart takes
└── SubmissionRefused   the glue, or the API server behind its kubectl, would not have the pod
"""

from __future__ import annotations

from cdmo_harness.errors import HarnessError


class ClearmlError(HarnessError):
    """The root of this part."""


class AgentMissing(ClearmlError):
    """The clearml-agent distribution cannot be had, or does not run."""


class BadQueues(ClearmlError):
    """The values file is not what the agent's chart takes."""


class SubmissionRefused(ClearmlError):
    """The glue, or the API server behind its kubectl, would not have the pod."""
