"""`python3 publish.py PORT FROM FIRST COUNT TOPICS`: numbered messages to every topic, in order."""

import json
import sys

import redis

_, port, sender, first, count, topics = sys.argv
client = redis.Redis(port=int(port))
for n in range(int(first), int(first) + int(count)):
    for topic in topics.split(","):
        client.publish(f"push:{topic}", json.dumps({"type": "tick", "payload": {"from": sender, "n": n}}))
