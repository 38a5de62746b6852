"""The core, by itself. Mutants of PROTOCOL §10 that these tests kill:

| mutant | killed by |
|---|---|
| window edge exclusive | `test_window.TestEdges`: exactly the timespan ago still counts (counts and temporal) |
| current intent not counted | `test_decide.TestWindowsInRules`: the judged intent is included |
| replay after eviction of the id memory | `test_intake.TestRejects`: an id is remembered until no copy can arrive; \
  `test_units`: an id that is forgotten is left out (not before) |
| window interval's wrong end | `test_window.TestUnknown`: a condition holds only if it does at both ends; \
  `test_window.TestBuckets`: whole buckets are exact and a split one widens |
| hold approved twice | `test_intake.TestApprovals`: a hold is approved once; \
  `test_units`: an answered hold is left out |
| deltas replayed under rules of a later switch | `test_units`: deltas from before a switch are replayed as they were |
"""
