"""Profiles as tables for terminals and as pages with pictures."""
