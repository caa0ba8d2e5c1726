"""A stand-in for NVIDIA's device plugin (v0.20, MIG strategy mixed, volume-mounts, PASS_DEVICE_SPECS).

It looks at the GPUs only when it starts, on SIGHUP and when the kubelet makes its socket anew, and stops at the
errors at which the real one stops. A real plugin's binary can take its place in every harness.
"""
