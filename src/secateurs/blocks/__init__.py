"""The chain of blocks of a deep network: which modules they are, and what each is called with."""

from secateurs.blocks.calls import Before, Calls, Entry, Handed, State, entries
from secateurs.blocks.chain import Chain, chains, outside

__all__ = ["Before", "Calls", "Chain", "Entry", "Handed", "State", "chains", "entries", "outside"]
