"""``castcore demo``: the story end to end, on real packets over real sockets."""
