"""Metrics that are looked up when somebody asks."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from cdmo.serving.asked import Watch, common, one, register


def test_a_value_is_that_of_the_moment_and_a_counter_is_named_as_one() -> None:
    registry, value = CollectorRegistry(), [1.0]
    register(registry, [one("level", "How high.", lambda: value[0]), one("falls", "So far.", lambda: 3, counts=True)])
    assert registry.get_sample_value("level") == 1.0
    value[0] = 2.0
    assert registry.get_sample_value("level") == 2.0
    assert registry.get_sample_value("falls_total") == 3
    assert "# TYPE falls_total counter" in generate_latest(registry).decode()


def test_every_process_tells_of_its_watches_and_events() -> None:
    registry, synced = CollectorRegistry(), [True]
    watches = (Watch("pods", lambda: synced[0], lambda: 12), Watch("nodes", lambda: False, lambda: 0))
    register(registry, common(watches, lambda: 4, lambda: 1))
    assert registry.get_sample_value("cdmo_watch_synced", {"kind": "pods"}) == 1
    assert registry.get_sample_value("cdmo_watch_synced", {"kind": "nodes"}) == 0
    assert registry.get_sample_value("cdmo_watch_objects", {"kind": "pods"}) == 12
    assert registry.get_sample_value("cdmo_events_queued") == 4
    assert registry.get_sample_value("cdmo_events_dropped_total") == 1
    synced[0] = False
    assert registry.get_sample_value("cdmo_watch_synced", {"kind": "pods"}) == 0
