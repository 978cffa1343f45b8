"""The command that tries ``castcore tun`` without root: ``castcore lab``."""
