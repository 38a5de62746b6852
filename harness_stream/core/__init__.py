"""What is decided: pure, no I/O, no clock, no randomness."""
