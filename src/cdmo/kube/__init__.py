"""The Kubernetes port: the only package that imports lightkube."""
