"""Tasks: data, loss and metric by name, and the networks that come with them."""
