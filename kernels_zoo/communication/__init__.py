"""Ranks that compute together, and what they tell each other."""
