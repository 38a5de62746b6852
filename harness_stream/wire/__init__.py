"""Bytes and models."""
