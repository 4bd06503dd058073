"""How near the data are to what the network saw, what follows for the depth, and afterwards whether it did. Imports no jax."""
