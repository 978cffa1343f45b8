"""``castcore tun``."""
