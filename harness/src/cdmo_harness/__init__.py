"""Local cluster, simulated nodes and the demo. Nothing in the product imports this package."""
