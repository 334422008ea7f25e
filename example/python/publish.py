#!/usr/bin/env python3
"""Publishes one message (pip install redis, or Debian's python3-redis):

    REDIS_URL=redis://127.0.0.1:6379 python3 publish.py channel:demo notice '{"text": "hello"}'
"""

import json
import os
import sys

import redis

defaults = ["channel:demo", "notice", '{"text": "hello"}']
topic, kind, payload = sys.argv[1:4] + defaults[len(sys.argv) - 1 :]

client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), socket_timeout=2)
# Python writes NaN and Infinity unless it is told not to; JSON has neither, and the nodes would refuse the envelope.
envelope = json.dumps({"type": kind, "payload": json.loads(payload)}, allow_nan=False)
nodes = client.publish(f"push:{topic}", envelope)

print(f"{topic}: {nodes} node(s) listen" if nodes else f"{topic}: nobody listens now")
