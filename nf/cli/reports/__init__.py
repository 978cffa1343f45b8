"""``castcore reports``: what clients have reported to consume."""
