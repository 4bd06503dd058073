"""Weights files, from disk or a hub, as names and arrays: read without running them, written whole or not at all."""
