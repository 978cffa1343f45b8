"""The PCF-like function: application sessions (N5), policy associations (N7), operator policies, the usage ledger."""
