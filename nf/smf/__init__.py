"""The SMF-like function: PDU sessions, PCC rules to N4 rules, and the way back of what was measured."""
