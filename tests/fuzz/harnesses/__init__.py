"""One module a harness: `check` takes an input and raises where something is wrong, `seeds` makes inputs."""
