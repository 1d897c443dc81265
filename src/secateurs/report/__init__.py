"""What was found, for a reader: a terminal table or one JSON document, from the same readings."""
