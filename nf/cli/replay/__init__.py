"""``castcore replay``."""
