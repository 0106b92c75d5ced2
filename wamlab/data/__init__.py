"""Readers that turn datasets on disk into `Scene` and `Window`, and the latent store. No models."""
