"""Solvers: which entries of one weight stay, and what those become. One file each."""
