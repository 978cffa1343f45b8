"""``castcore ls``, ``show`` and ``watch``: resources and events of a running stack."""
