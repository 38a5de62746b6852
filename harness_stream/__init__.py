"""AI Harness: Zero Trust for what autonomous agents do."""
