"""The MB-UPF: packets of MBS sessions, out of the tunnels of Nmb9 and on by every branch (TS 23.247 §5.3.2.5)."""
