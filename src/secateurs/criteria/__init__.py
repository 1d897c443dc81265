"""What a unit is worth: rows of weights, gradients and activation norms -> scores, higher = keep."""
