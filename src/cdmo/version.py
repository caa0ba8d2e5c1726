"""The one place that says which CDMO this is; the CHANGELOG must agree (checked by a test)."""

__version__ = "0.1.0"
