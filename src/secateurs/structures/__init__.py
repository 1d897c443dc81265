"""What can go: the groups of a network."""
