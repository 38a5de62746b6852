"""The core, by itself. Which mutants of PROTOCOL §10 its tests kill stands in tests/mutants/table.py."""
