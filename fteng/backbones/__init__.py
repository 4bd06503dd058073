"""Pretrained networks as ordered lists of named stages, and the readers of their weights."""
