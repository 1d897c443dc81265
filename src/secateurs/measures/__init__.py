"""What a model is worth and what it costs: each measure reads one number and says how it was got."""
