"""``castcore certs``: the lab's certificate authority and the certificates below it."""
