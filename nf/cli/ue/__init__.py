"""``castcore ue``: the UE side from the shell."""
