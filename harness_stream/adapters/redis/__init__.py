"""Redis (or Valkey) behind the state port."""
