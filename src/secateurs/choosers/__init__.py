"""Choosers: which units of a group stay, decided together once it is known how many."""
