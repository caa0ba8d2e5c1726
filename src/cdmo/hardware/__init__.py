"""The hardware port: what CDMO asks of a GPU driver, and the one adapter on NVML."""
