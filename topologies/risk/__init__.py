"""Risk scoring: an agent that is denied again and again becomes risky, and recovers when it stops (DESIGN §7).

`score` is pure, `start` finds where to read from, `app` moves bytes with Faust. `python -m topologies.risk` runs it, or
`faust -A topologies.risk.app worker -l info`; the settings are every process's own (`HARNESS_*`, `harness.toml`).
It owns the `agent:` rows of the risk table; other sources speak of tools, resources and tenants.
"""
