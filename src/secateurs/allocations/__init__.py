"""How much from where: scores and costs -> units kept per block."""
