"""The container image: what is in it, that it can be built again, and what builds it."""
