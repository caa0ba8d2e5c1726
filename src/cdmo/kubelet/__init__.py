"""The kubelet's side of a node: who holds which device, and making the device plugin look again."""
