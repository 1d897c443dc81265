"""Prune a trained PyTorch network as far as a stated quality bound allows."""
