#!/bin/sh
# Publishes over HTTP:
#   PUSH_URL=http://127.0.0.1:3000/push PUSH_API_KEY=… ./push.sh channel:demo notice '{"text":"hello"}'
# Prints what became of it; fails, and prints why, when the API refuses.
set -eu

topic=${1:-channel:demo}
type=${2:-notice}
payload=${3:-'{"text":"hello"}'} # JSON; it goes out as it stands

curl --silent --show-error --fail-with-body --max-time 5 "${PUSH_URL:-http://127.0.0.1:3000/push}" \
  --header "Authorization: Bearer ${PUSH_API_KEY:?set it to a key of the push API}" \
  --header 'Content-Type: application/json' \
  --data "{\"to\":\"$topic\",\"type\":\"$type\",\"payload\":$payload,\"receipt\":true}"
echo
