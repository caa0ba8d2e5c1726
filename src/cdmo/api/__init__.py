"""The MigNode API: its types, the CRD generated from them, and the way from and to the model."""
