"""The command line: ``secateurs demo | finetune | prune | inspect | measure | evaluate | ...``. No logic of its own."""

from secateurs.cli.commands import main

__all__ = ["main"]
