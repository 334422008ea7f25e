#!/usr/bin/env python3
"""Prints every message (pip install websockets, or Debian's python3-websockets):

    python3 listen.py 'ws://127.0.0.1:3000/ws/demo?user=alice'

The server asks for nothing: whoever reads is a complete client. websockets answers its pings by itself.
"""

import asyncio
import random
import re
import sys

import websockets

STAY_CLOSED = {1000, 1008, 1009, *range(4400, 4500)}


async def read(url: str) -> bool:
    """Prints messages until the connection ends; says whether to connect again."""
    try:
        async with websockets.connect(url) as connection:
            async for message in connection:
                print(message, flush=True)
    except websockets.ConnectionClosed:
        pass
    except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as problem:
        print(problem, file=sys.stderr, flush=True)
        return not re.search(r"HTTP 4\d\d", str(problem))  # 401, 403, 404: the next time will be no better
    print(f"closed: {connection.close_code} {connection.close_reason}", file=sys.stderr, flush=True)
    return connection.close_code not in STAY_CLOSED


async def listen(url: str) -> None:
    while await read(url):
        await asyncio.sleep(random.uniform(0, 5))  # clients that fell together must not come back together


if __name__ == "__main__":
    try:
        asyncio.run(listen(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:3000/ws/demo"))
    except KeyboardInterrupt:
        pass
