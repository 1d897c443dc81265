"""What measures read with: the counter of operations, the clock, the meters of energy, the intervals."""
