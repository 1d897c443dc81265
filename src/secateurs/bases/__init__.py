"""In which directions a network is pruned: matrices that turn it without changing what it computes."""
