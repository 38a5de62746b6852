"""The real mode without containers (DESIGN §8): Apache Kafka and Redis as plain local processes.

Rule of this room: it starts, finds again and stops processes on the loopback interface,
and knows nothing of intents or verdicts.
"""
