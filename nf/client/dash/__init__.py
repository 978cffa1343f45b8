"""DASH on the UE (ISO/IEC 23009-1): MPDs, which of their representations comply with a policy, and a player."""
