"""The castcore command."""
