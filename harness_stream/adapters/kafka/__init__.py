"""Apache Kafka behind the log ports: the only package that imports the Kafka client on the path of an intent."""
