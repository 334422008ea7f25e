#!/bin/sh
# Publishes through Redis:
#   REDIS_URL=redis://127.0.0.1:6379 ./publish.sh channel:demo notice '{"text":"hello"}'
# Prints how many nodes listen; 0: nobody is there now.
set -eu

topic=${1:-channel:demo}
type=${2:-notice}
payload=${3:-'{"text":"hello"}'} # JSON; it goes out as it stands

redis-cli -u "${REDIS_URL:-redis://127.0.0.1:6379}" PUBLISH "push:$topic" "{\"type\":\"$type\",\"payload\":$payload}"
