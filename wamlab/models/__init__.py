"""World models: shared blocks, and one architecture per file. No training loop and no I/O."""
