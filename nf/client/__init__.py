"""The UE side: the Media Session Handler (TS 26.512 A.3)."""
