"""The log and state ports in one process: for simulation, demo and tests."""
