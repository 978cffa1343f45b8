"""The commands about MPDs: ``castcore mpd``."""
