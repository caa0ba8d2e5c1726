"""The override files of ClearML's guide for its dynamic MIG operator, as they stand there: what ours are held to."""

_ENVIRONMENT = """\
toolkit:
  env:
    - name: ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED
      value: "false"
    - name: ACCEPT_NVIDIA_VISIBLE_DEVICES_AS_VOLUME_MOUNTS
      value: "true"
    - name: NVIDIA_CONTAINER_TOOLKIT_OPT_IN_FEATURES
      value: "disable-cuda-compat-lib-hook"
devicePlugin:
  env:
    - name: PASS_DEVICE_SPECS
      value: "true"
    - name: FAIL_ON_INIT_ERROR
      value: "true"
    - name: DEVICE_LIST_STRATEGY # Use volume-mounts
      value: volume-mounts
    - name: DEVICE_ID_STRATEGY
      value: uuid
    - name: NVIDIA_VISIBLE_DEVICES
      value: all
    - name: NVIDIA_DRIVER_CAPABILITIES
      value: all
"""
ON = "migManager:\n  enabled: false\nmig:\n  strategy: mixed\n" + _ENVIRONMENT
OFF = _ENVIRONMENT

# Its notes; the one for MicroK8s is of a later edition.
K3S = [("CONTAINERD_SOCKET", "/run/k3s/containerd/containerd.sock")]
MICROK8S = [
    ("CONTAINERD_CONFIG", "/var/snap/microk8s/current/args/containerd-template.toml"),
    ("CONTAINERD_SOCKET", "/var/snap/microk8s/common/run/containerd.sock"),
    ("CONTAINERD_RUNTIME_CLASS", "nvidia"),
    ("CONTAINERD_SET_AS_DEFAULT", "true"),
]
