"""Risk scoring: an agent that is denied again and again becomes risky, and recovers when it stops (DESIGN §7).

`score` is pure, `start` finds where to read from, `app` moves bytes with Faust. Run it with `python -m topologies.risk`,
or `faust -A topologies.risk.app worker -l info`; settings are those of every other process (`HARNESS_*`, `harness.toml`).
It owns the `agent:` rows of the risk table; other sources speak of tools, resources and tenants.
"""
