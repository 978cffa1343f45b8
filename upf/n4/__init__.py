"""The N4-shaped control of the user plane."""
