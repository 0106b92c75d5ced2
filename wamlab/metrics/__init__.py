"""Numbers computed from predictions and truth. No plots and no I/O."""
