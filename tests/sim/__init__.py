"""Tests of the simulated NVML and of its Python handle."""
