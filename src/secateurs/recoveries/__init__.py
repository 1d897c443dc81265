"""Recoveries: how a pruned network heals. Each changes weights in place and keeps what is pruned at zero."""
