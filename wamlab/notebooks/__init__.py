"""Executing notebooks, exporting them as offline pages, and the index of pages."""
