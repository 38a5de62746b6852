"""`harness demo`: a few agents, judged while one watches; alone in one process, or on real Kafka and Redis.

Rule of this package: it uses the product as anybody would (the client's `guard`, the very worker, the log), and what it
shows it has read from the decision log, never from what an agent says of itself.
"""
