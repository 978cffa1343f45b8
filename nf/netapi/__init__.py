"""The network API platform: bookings of network capabilities by area and schedule (5G-MAG live media distribution)."""
