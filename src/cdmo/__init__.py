"""CDMO: the open Dynamic MIG Operator."""
