"""What every network function needs: server, channels, errors, store, clock, events, configuration, telemetry."""
