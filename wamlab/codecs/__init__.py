"""Frozen maps between frames and latents."""
