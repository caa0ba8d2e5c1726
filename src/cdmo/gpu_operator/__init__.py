"""The values that NVIDIA's gpu-operator needs beside CDMO, and why. Nothing is asked or done here."""

from cdmo.gpu_operator.chart import ChartVersion, chart_version
from cdmo.gpu_operator.values import Distribution, Wanted, override

__all__ = ["ChartVersion", "Distribution", "Wanted", "chart_version", "override"]
