"""Losses, penalties, objectives, optimisers, and the loop that takes the steps."""
