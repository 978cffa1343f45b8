"""The MBSF: user services, ingest sessions, the life of distribution sessions, announcements (TS 26.502)."""
