"""The command line: ``secateurs demo | finetune | prune | inspect | measure | compare``. No logic of its own."""

from secateurs.cli.commands import main

__all__ = ["main"]
