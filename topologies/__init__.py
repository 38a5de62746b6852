"""Faust apps for what no agent waits for (DESIGN §7). `harness_stream` never imports them."""
