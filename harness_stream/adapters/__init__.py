"""Adapters: each port met by one technology."""
