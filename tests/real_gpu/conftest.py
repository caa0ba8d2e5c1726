"""These tests ask a real NVIDIA driver. They are collected only on a machine that has one, and change nothing."""

from __future__ import annotations

from pathlib import Path

if not Path("/dev/nvidiactl").exists():
    collect_ignore_glob = ["test_*.py"]
