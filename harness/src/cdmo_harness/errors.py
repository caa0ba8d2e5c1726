"""Failures of the harness: its programs, their processes and the local control plane.

HarnessError
├── BinariesError            the programs of the control plane
│   ├── NoToolchain          no Go that is new enough, and none could be installed
│   ├── BuildFailed          the Go compiler or the module proxy said no
│   └── WrongBinary          a file is missing, cannot run, or is another program
├── ImageNotBuilt            the container image cannot be built here, or its build failed
├── ProcessError             a process did not start, or ended while it was needed
├── NotReadyInTime           something did not become ready within its limit
└── ControlPlaneError        the local API server refused what the harness asked for
"""

from __future__ import annotations

from cdmo.errors import CdmoError


class HarnessError(CdmoError):
    """The root. `str(error)` is one sentence for people; `hint` says what to do, or is empty."""


class BinariesError(HarnessError):
    """The programs of the control plane cannot be had."""


class NoToolchain(BinariesError):
    """There is no Go that is new enough, and none could be installed."""


class BuildFailed(BinariesError):
    """The Go compiler or the module proxy said no."""


class WrongBinary(BinariesError):
    """A file is missing, cannot be run, or is another program than its name says."""


class ImageNotBuilt(HarnessError):
    """The container image cannot be built on this machine, or its build failed."""


class ProcessError(HarnessError):
    """A process did not start, or ended while it was needed."""


class NotReadyInTime(HarnessError):
    """Something did not become ready within its limit."""


class ControlPlaneError(HarnessError):
    """The local API server refused, or did not answer, what the harness asked for."""


class NoSuchObject(ControlPlaneError):
    """The local API server does not have what was asked for."""
