"""Training one trial: the compiled step, the loop around it, its checkpoints and its audit."""
