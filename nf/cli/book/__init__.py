"""``castcore book``: a network API platform from the shell."""
