"""A kubelet stand-in: one process a simulated node, with the real kubelet's rules about devices.

`device_manager` is the rules without any I/O; `plugins` the registration bookkeeping; `node_status` what a status
tick writes; `workers` the life of a pod; `kubelet` puts them together. What is modelled, and from where:
Kubernetes 1.37.2, pkg/kubelet (cm/devicemanager, lifecycle, nodestatus, apis/podresources).
"""
