"""The 5GMSd AF: provisioning (M1), media session handling (M5), dynamic policies (TS 26.512)."""
