"""A cluster of Kafka for tests: three brokers of librdkafka's mock, in this process. It prints their addresses and ends with
its standard input. Each line there, {"topic", "key", "value"}, is produced; the answer is its partition and offset."""

import json
import sys

from confluent_kafka import Producer

producer = Producer({"test.mock.num.brokers": 3, "log_level": 3})
brokers = producer.list_topics(timeout=30).brokers.values()
print(json.dumps({"brokers": [f"{broker.host}:{broker.port}" for broker in brokers]}), flush=True)


def told(error, message):
    if error is not None:
        sys.exit(f"not produced: {error}")
    print(json.dumps([message.partition(), message.offset()]), flush=True)


for line in sys.stdin:
    request = json.loads(line)
    producer.produce(request["topic"], request["value"], request["key"], on_delivery=told)
    producer.flush()
