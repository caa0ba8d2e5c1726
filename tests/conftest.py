"""Fixtures for every test."""

pytest_plugins = ["tests.cluster_fixtures", "tests.node_backends"]
