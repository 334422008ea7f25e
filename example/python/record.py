#!/usr/bin/env python3
"""Records one message: whoever was away gets it when it is back (pip install redis, or Debian's python3-redis):

    REDIS_URL=redis://127.0.0.1:6379 python3 record.py channel:demo notice '{"text": "hello"}' notice-1
"""

import json
import os
import sys

import redis

defaults = ["channel:demo", "notice", '{"text": "hello"}']
topic, kind, payload = sys.argv[1:4] + defaults[len(sys.argv) - 1 :]
key = sys.argv[4:5]  # names this message: a repeat with the same key does nothing

client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), socket_timeout=2)
envelope = json.dumps({"type": kind, "payload": json.loads(payload)}, allow_nan=False)
try:
    # The newest 1,000 of the topic, for an hour. A node has to have been connected to this Redis: it loads push_publish.
    answer = client.execute_command("FCALL", "push_publish", 1, f"push:{topic}", envelope, 1000, 3600, *key)
except redis.ResponseError as problem:
    sys.exit(str(problem))  # nothing was recorded, and the first word says why
_id, seq, nodes, duplicate = answer

print(f"{topic}: number {seq}, {nodes} node(s) listen" + (", recorded before" if duplicate else ""))
