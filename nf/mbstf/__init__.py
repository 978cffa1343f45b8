"""The MBSTF: ingest of user data, its packaging, and sending to the MB-UPF (TS 26.502, TS 26.517)."""
