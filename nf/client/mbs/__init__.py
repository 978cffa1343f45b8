"""The UE side of multicast and broadcast: the MBSF client and the MBSTF client (TS 26.502 §4.2)."""
