"""Pods made by the real ClearML agent."""
