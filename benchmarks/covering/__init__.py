"""What `coverage.py` does to each architecture, in a process of its own: ours, the peer's, and what is measured."""
