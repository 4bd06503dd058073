"""What lies before a boundary is constant: its activations are computed once and shared by all trials that enter there."""
