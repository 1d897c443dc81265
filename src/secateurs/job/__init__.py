"""The whole job in one call: open what the user names, prune it under a bound, save, reload and measure again."""
