"""Every target."""

from __future__ import annotations

from tests.fuzz import decisions, decoders, files, http, node, remembered, streams
from tests.fuzz.target import Target

TARGETS: tuple[Target, ...] = (
    *decoders.TARGETS,
    *streams.TARGETS,
    *files.TARGETS,
    *node.TARGETS,
    *remembered.TARGETS,
    *http.TARGETS,
    *decisions.TARGETS,
)
