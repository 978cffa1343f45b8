"""Fuzzing: damaged and adversarial input against whatever reads foreign bytes."""
