#!lua name=push_v1
-- Recorded publications, each in one atomic step. The contract is docs/redis.md. The same body is loaded as a library
-- of functions or, on servers that forbid functions, as a script. JSON is never encoded again: Lua's cjson would turn
-- [] into {} and 100000000000000001 into 1e+17.

local VERSION = 9
local DAY = 86400
local MAX_SIZE = 100000
local MAX_TTL = 366 * DAY
-- The default of limits.publication.
local MAX_BYTES = 262144
-- Seconds for which an idempotency key is remembered, at least. One of a client is not remembered for longer: there may be
-- as many as clients like.
local ONCE_TTL = 600
local CLIENT_KEY = 'client:'
local READ_AT_ONCE = 16
-- So many bytes of entries are looked through for the newest ones.
local MAX_NEWEST_BYTES = 1048576
-- About so many bytes of users are taken away in one call: the change is published.
local MAX_PURGED_BYTES = 65536
local RESERVED = {
  welcome = true, ping = true, pong = true, subscribe = true, subscribed = true, unsubscribe = true,
  unsubscribed = true, reply = true, error = true, gap = true, reconnect = true, ack = true,
  authenticate = true, authenticated = true, presence = true, history = true,
}
local KEYS_OF_ENVELOPE = {
  type = true, payload = true, from = true, seq = true, except = true, receipt = true, ack = true, v = true, ext = true,
}

local function refuse(code, message)
  return redis.error_reply('PUSH_ERR_' .. code .. ' ' .. message)
end

-- The prefix does not contain the name of a kind, so the first one begins the topic.
local function topic_of(channel)
  local at = nil
  for _, kind in ipairs({ 'channel:', 'user:', 'connection:' }) do
    local found = channel:find(kind, 1, true)
    if found and (not at or found < at) then at = found end
  end
  if not at and channel:sub(-3) == 'all' then at = #channel - 2 end
  return at and channel:sub(at)
end

local function topic_problem(topic)
  if not topic then return 'the key is not the channel of a topic: write for example push:user:42' end
  if topic:sub(1, 11) == 'connection:' then return 'connection: is never recorded' end
  local name = topic:match('^channel:(.*)$') or topic:match('^user:(.*)$') or (topic == 'all' and 'all')
  if not name or name == '' then return 'the topic has no name' end
  if #name > 200 then return 'the name of the topic is longer than 200 bytes' end
  if name:find('[%s%c{}*]') then
    return 'the name of the topic has white space, a control character, a brace or a star in it'
  end
  return nil
end

local function is_utf8(text)
  local at = text:find('[\128-\255]')
  while at do
    local first, second = text:byte(at, at + 1)
    local more = 0
    if first >= 0xC2 and first <= 0xDF then more = 1
    elseif first >= 0xE0 and first <= 0xEF then more = 2
    elseif first >= 0xF0 and first <= 0xF4 then more = 3
    end
    if more == 0 or not text:find('^' .. ('[\128-\191]'):rep(more), at + 1) then return false end
    -- Overlong forms, surrogates, and what lies beyond U+10FFFF.
    if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F) then return false end
    if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F) then return false end
    at = text:find('[\128-\255]', at + more + 1)
  end
  return true
end

local function is_publisher(from)
  if type(from) ~= 'table' then return false end
  for key in pairs(from) do if key ~= 'user' then return false end end
  return from.user == cjson.null or type(from.user) == 'string'
end

-- MessagePack is read by hand: cmsgpack does not know its bytes, and would create everything that a payload has.
local FIXED = {
  [0xc0] = 0, [0xc2] = 0, [0xc3] = 0, [0xca] = 4, [0xcb] = 8, [0xcc] = 1, [0xcd] = 2, [0xce] = 4, [0xcf] = 8,
  [0xd0] = 1, [0xd1] = 2, [0xd2] = 4, [0xd3] = 8,
}
-- How many bytes the length has, of bytes and of texts, of lists, and of maps.
local BYTES = { [0xc4] = 1, [0xc5] = 2, [0xc6] = 4, [0xd9] = 1, [0xda] = 2, [0xdb] = 4 }
local LISTS = { [0xdc] = 2, [0xdd] = 4 }
local MAPS = { [0xde] = 2, [0xdf] = 4 }

local function is_msgpack(envelope)
  local first = envelope:byte(1) or 0
  return (first >= 0x80 and first <= 0x8f) or MAPS[first] ~= nil
end

-- Returns what the head at `at` announces, and where its content begins: bytes to skip, items that follow. nil if it ends
-- too early, or is of an extension type.
local function msgpack_head(bytes, at)
  local head = bytes:byte(at)
  if not head then return nil end
  if head <= 0x7f or head >= 0xe0 then return 0, 0, at + 1 end
  if head <= 0x8f then return 0, 2 * (head - 0x80), at + 1 end
  if head <= 0x9f then return 0, head - 0x90, at + 1 end
  if head <= 0xbf then return head - 0xa0, 0, at + 1 end
  if FIXED[head] then return FIXED[head], 0, at + 1 end
  local size = BYTES[head] or LISTS[head] or MAPS[head]
  if not size or at + size > #bytes then return nil end
  local count = 0
  for i = at + 1, at + size do count = count * 256 + bytes:byte(i) end
  if BYTES[head] then return count, 0, at + 1 + size end
  return 0, LISTS[head] and count or 2 * count, at + 1 + size
end

-- Where the value at `at` ends; nil if it does not.
local function msgpack_end(bytes, at)
  local left = 1
  while left > 0 do
    local skip, items, from = msgpack_head(bytes, at)
    if not skip or from + skip > #bytes + 1 then return nil end
    at = from + skip
    left = left - 1 + items
  end
  return at
end

local function msgpack_text(bytes, at)
  local head = bytes:byte(at) or 0
  if not ((head >= 0xa0 and head <= 0xbf) or (head >= 0xd9 and head <= 0xdb)) then return nil end
  local length, _, from = msgpack_head(bytes, at)
  if not length or from + length > #bytes + 1 then return nil end
  return bytes:sub(from, from + length - 1)
end

-- The map at `at`, with its maps but not what is in those: no key of an envelope goes deeper. Other values are there, but not
-- what they are. Returns it and where it ends; nil if that is no whole map with texts as keys.
local function msgpack_map(bytes, at, is_inner)
  local _, items, from = msgpack_head(bytes, at)
  local map = {}
  for _ = 1, (items or 0) / 2 do
    local key = msgpack_text(bytes, from)
    local value_at = key and msgpack_end(bytes, from)
    local next_at = value_at and msgpack_end(bytes, value_at)
    if not next_at then return nil end
    local head = bytes:byte(value_at)
    local value = msgpack_text(bytes, value_at)
    if value == nil then
      if head == 0xc0 then value = cjson.null
      elseif head == 0xc2 or head == 0xc3 then value = head == 0xc3
      elseif head <= 0x7f then value = head
      elseif (head >= 0x90 and head <= 0x9f) or LISTS[head] then value = { true }
      elseif is_msgpack(bytes:sub(value_at, value_at)) then value = is_inner and {} or msgpack_map(bytes, value_at, true)
      else value = 0
      end
      if value == nil then return nil end
    end
    map[key] = value
    from = next_at
  end
  if not from then return nil end
  return map, from
end

local function msgpack_envelope(envelope)
  local map, after = msgpack_map(envelope, 1, false)
  if not map then
    return nil, 'the envelope is broken MessagePack, or has an extension type or a key that is not a text'
  end
  if after ~= #envelope + 1 then return nil, 'more bytes follow the envelope in MessagePack' end
  return map
end

local function json_object(envelope)
  if not is_utf8(envelope) then return nil, 'the envelope is not UTF-8' end
  if envelope:sub(1, 1) ~= '{' then return nil, 'the envelope does not begin with {' end
  -- cjson rejects a lone surrogate, which JSON.stringify writes for a text that was cut inside an emoji.
  local ok, value = pcall(cjson.decode, (envelope:gsub('\\u[dD][89a-fA-F]%x%x', '\\u0000')))
  if not ok or type(value) ~= 'table' then return nil, 'the envelope is broken JSON' end
  return value
end

-- Returns a code and a sentence if the envelope cannot be used. For invalid JSON that cjson accepts, nodes send a gap.
local function envelope_problem(envelope, max)
  if #envelope > max then
    return 'TOO_LARGE', 'the envelope has ' .. #envelope .. ' bytes; limits.publication allows ' .. max
  end
  local value, problem
  if is_msgpack(envelope) then value, problem = msgpack_envelope(envelope)
  else value, problem = json_object(envelope)
  end
  if not value then return 'JSON', problem end
  if value.control ~= nil then return 'FIELD', 'commands are not recorded' end
  for key in pairs(value) do
    if not KEYS_OF_ENVELOPE[key] and tostring(key):sub(1, 2) ~= 'x-' then
      return 'UNKNOWN_KEY', 'unknown key "' .. tostring(key) .. '" in the envelope'
    end
  end
  if type(value.type) ~= 'string' or #value.type > 128 or not value.type:find('^[%w_.:/-]+$') then
    return 'TYPE', 'type is not 1 to 128 of A-Z a-z 0-9 _ . : / -'
  end
  if RESERVED[value.type] or value.type:sub(1, 5) == 'push.' then
    return 'RESERVED_TYPE', 'type "' .. value.type .. '" is reserved for the protocol: choose another'
  end
  if value.ack == true and value.receipt == nil then return 'FIELD', 'ack needs a receipt: a token for the answers' end
  if value.from ~= nil and not is_publisher(value.from) then
    return 'FIELD', 'from is neither {"user":"42"} nor {"user":null}'
  end
  if value.ext ~= nil and (type(value.ext) ~= 'table' or value.ext[1] ~= nil) then
    return 'FIELD', 'ext is not an object'
  end
  if value.v ~= nil and value.v ~= 1 then return 'FIELD', 'the envelope has an unknown version' end
  return nil
end

local function integer(text, max)
  local number = tonumber(text)
  if not number or number < 1 or number > max or number % 1 ~= 0 then return nil end
  return number
end

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), time
end

-- Names of timelines sort by the time at which they began: 8 hexadecimal digits of seconds, 5 of microseconds, and for
-- the timeline of a server some random ones.
local function timeline_at(microseconds)
  return string.format('%08x%05x', math.floor(microseconds / 1000000), microseconds % 1000000)
end

-- Of a server on which no loss was noticed yet: earlier than all others, so that topics which move here keep theirs.
local FIRST_TIMELINE = '0000000000000'

local function microseconds_in(timeline)
  return tonumber(timeline:sub(1, 8), 16) * 1000000 + tonumber(timeline:sub(9, 13), 16)
end

local function microseconds_of(time)
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Always later than the last mark, even if the clock went back.
local function next_mark(last, milliseconds)
  local last_time, last_number = last:match('%.(%d+)%-(%d+)$')
  if last_time and tonumber(last_time) >= milliseconds then
    return last_time .. '-' .. string.format('%d', tonumber(last_number) + 1)
  end
  return string.format('%.0f', milliseconds) .. '-0'
end

-- While a slot of a Cluster moves, Redis looks at the keys of a call to say who may answer it: nodes name the keys
-- themselves, all of one topic. Otherwise the keys are channels, which are never keys of anything.
local function channels_of(keys)
  local channel = keys[1] and (keys[1]:match('^{(.*)}:head$') or keys[1]:match('^{(.*)}:presence$'))
  return channel and { channel } or keys
end

-- Whether this server is just getting the slot of the channel: keys of the topic may still be where it comes from. Until
-- all are here Redis refuses every command about two keys of which one is missing, and these are never there.
local function is_arriving(channel)
  local tag = '{' .. channel .. '}'
  local reply = redis.pcall('UNLINK', tag .. ':none', tag .. ':neither')
  return type(reply) == 'table' and reply.err ~= nil and reply.err:find('non local key', 1, true) ~= nil
end

local function names(channel)
  local tag = '{' .. channel .. '}'
  return tag .. ':history', tag .. ':head', tag .. ':once:'
end

local function timeline_of(id)
  return id:match('^(%w+)%.')
end

-- A head of an older timeline than that of the server is of a Redis that went back in time since: it gets the timeline
-- of the server. A client that is told the gap can continue from this id, and no other client holds it.
local function renew(head, state, timeline)
  if timeline_of(state[1]) < timeline then
    state[1] = timeline .. state[1]:match('%..*$')
    redis.call('HSET', head, 'id', state[1])
  end
end

-- Returns id, seq and ttl of the head; id is nil if nothing was recorded.
local function head_of(head, timeline, max)
  local state = redis.call('HMGET', head, 'id', 'seq', 'size', 'ttl', 'max')
  if state[5] ~= max and (state[5] or tonumber(max) ~= MAX_BYTES) then redis.call('HSET', head, 'max', max) end
  if not state[1] then
    -- Nothing was recorded yet: only another limit than the default is kept.
    if tonumber(max) ~= MAX_BYTES then redis.call('EXPIRE', head, DAY) end
    return nil, 0, 0
  end
  renew(head, state, timeline)
  return state[1], tonumber(state[2]), tonumber(state[4])
end

-- How many subscribers the channel has at this server; nil if that cannot be asked. A refusal would fill the ACL LOG.
local function subscribers(question, channel)
  if redis.acl_check_cmd and not redis.acl_check_cmd('PUBSUB', question, channel) then return nil end
  local reply = redis.pcall('PUBSUB', question, channel)
  return type(reply) == 'table' and tonumber(reply[2]) or nil
end

-- Publishes to the subscribers of both kinds of pub/sub. A node that hears both takes a position once. While a fleet is
-- moved from one to the other, the nodes that hear one of them also hear the other, so the larger number is theirs.
local function publish(channel, message, is_sharded)
  if not is_sharded then return redis.call('PUBLISH', channel, message) end
  local nodes = redis.call('SPUBLISH', channel, message)
  if subscribers('NUMSUB', channel) == 0 then return nodes end
  return math.max(nodes, redis.call('PUBLISH', channel, message))
end

-- Checks the rights first: a command that is refused half way would leave an entry that was never published.
local function forbidden(history, head, channel, is_sharded)
  if not redis.acl_check_cmd then return nil end
  local needed = {
    { 'XADD', history, '*', 'e', '' }, { 'XTRIM', history, 'MINID', '=', '0' }, { 'UNLINK', history },
    { 'HSET', head, 'id', '' }, { 'EXPIRE', head, '1' }, { 'PUBLISH', channel, '' },
  }
  if is_sharded then needed[#needed] = { 'SPUBLISH', channel, '' } end
  for _, command in ipairs(needed) do
    if not redis.acl_check_cmd(unpack(command)) then return command[1] .. ' ' .. command[2] end
  end
  return nil
end

-- KEYS: the channel, or its keys. ARGV: envelope, size, ttl, idempotency key or nothing, the largest envelope allowed or
-- nothing (with this one, the idempotency key may be ''), '1' for SPUBLISH even if nobody seems to be subscribed that way.
-- → {id, seq, nodes, duplicate}
local function push_publish(keys, args)
  local channels = channels_of(keys)
  local channel = channels[1]
  if not channel or #channels ~= 1 then return refuse('FIELD', 'push_publish takes one key: the channel') end
  local topic = topic_of(channel)
  local problem = topic_problem(topic)
  if problem then return refuse('TOPIC', problem) end
  local envelope, size, ttl, key = args[1], integer(args[2], MAX_SIZE), integer(args[3], MAX_TTL), args[4]
  if not envelope then return refuse('FIELD', 'the envelope is missing') end
  if not size then return refuse('FIELD', 'SIZE is not an integer from 1 to ' .. MAX_SIZE) end
  if not ttl then return refuse('FIELD', 'TTL is not a whole number of seconds from 1 to ' .. MAX_TTL) end
  if key == '' and args[5] then key = nil end
  if key and (key == '' or #key > 200) then return refuse('FIELD', 'the idempotency key is not 1 to 200 bytes long') end
  local history, head, once = names(channel)
  local state = redis.call('HMGET', head, 'id', 'seq', 'size', 'ttl', 'max')
  local code, why = envelope_problem(envelope, tonumber(args[5] or state[5] or '') or MAX_BYTES)
  if code then return refuse(code, why) end
  -- A second history would begin, or a repeat be recorded again. Who names the keys is answered by Redis itself.
  if #keys == 1 and is_arriving(channel) then
    return redis.error_reply('TRYAGAIN the slot of ' .. channel .. ' is being moved to this server')
  end
  if key then
    local before = redis.call('HMGET', once .. key, 'id', 'seq', 'nodes')
    if before[1] then return { before[1], tonumber(before[2]), tonumber(before[3]), 1 } end
  end
  local is_sharded = args[6] == '1' or (subscribers('SHARDNUMSUB', channel) or 0) > 0
  local missing = forbidden(history, head, channel, is_sharded)
  if missing then return redis.error_reply('NOPERM this user has no permission for ' .. missing) end
  local milliseconds, time = now()
  local previous = state[1] or '-'
  local seq = tonumber(state[2] or '0') + 1
  size = math.max(size, tonumber(state[3] or '0'))
  ttl = math.max(ttl, tonumber(state[4] or '0'))
  local mark = next_mark(previous, milliseconds)
  -- Without a head the rest of a history is useless: nothing says where it ends.
  if not state[1] then redis.call('UNLINK', history) end
  local number = string.format('%.0f', seq)
  local timeline = timeline_of(previous) or timeline_at(microseconds_of(time))
  local id = timeline .. '.' .. number .. '.' .. mark
  redis.call('XADD', history, 'MAXLEN', '=', size, mark, 'i', id, 'p', previous, 'e', envelope)
  redis.call('XTRIM', history, 'MINID', '=', string.format('%.0f', milliseconds - ttl * 1000))
  redis.call('EXPIRE', history, ttl)
  redis.call('HSET', head, 'id', id, 'seq', number, 'size', size, 'ttl', ttl)
  redis.call('EXPIRE', head, ttl + DAY)
  local nodes = publish(channel, id .. ' ' .. number .. ' ' .. previous .. '\n' .. envelope, is_sharded)
  if key then
    redis.call('HSET', once .. key, 'id', id, 'seq', number, 'nodes', nodes)
    local is_of_client = key:sub(1, #CLIENT_KEY) == CLIENT_KEY
    redis.call('EXPIRE', once .. key, is_of_client and ONCE_TTL or math.max(ttl, ONCE_TTL))
  end
  return { id, seq, nodes, 0 }
end

local function entry_seq_of(id)
  return tonumber(id:match('%.(%d+)%.'))
end

local function gap(reason, id, seq)
  return { reason, id, seq, 1 }
end

-- Why something is missing between `since` and the first entry after it; nil if nothing is. A head of another timeline
-- than the first entry has one of a server that went back in time, which the present server need not be.
local function gap_before(entry, since, since_seq, oldest, head_id)
  if tonumber(entry[1]:match('^(%d+)')) < oldest then return 'history_expired' end
  local entry_seq = entry_seq_of(entry[2][2])
  local is_first = since_seq == 0 and entry_seq == 1 and timeline_of(entry[2][2]) == timeline_of(head_id)
  if entry[2][4] == since or is_first then return nil end
  return entry_seq > since_seq + 1 and 'history_trimmed' or 'history_replaced'
end

-- Adds id and envelope of each entry, up to the limits. Entries are read a few at a time: to read hundreds of large
-- ones, of which only a handful fit, would block Redis for half a second.
local function take_entries(result, history, from, count, bytes)
  local taken, number = 0, 0
  while number < count do
    local asked = math.min(READ_AT_ONCE, count - number)
    local entries = redis.call('XRANGE', history, from, '+', 'COUNT', asked)
    for _, entry in ipairs(entries) do
      local entry_id, envelope = entry[2][2], entry[2][6]
      number = number + 1
      taken = taken + #envelope
      if number > 1 and taken > bytes then return result end
      result[#result + 1] = entry_id
      result[#result + 1] = envelope
      from = '(' .. entry[1]
    end
    if #entries < asked then return result end
  end
  return result
end

-- A position before the first entry. Its mark says when that was true.
local function start_of(timeline, milliseconds)
  return timeline .. '.0.' .. string.format('%.0f', milliseconds) .. '-0'
end

-- KEYS: channels, or the keys of one. ARGV: the timeline of the server, the largest envelope allowed.
-- → {id, seq, id, seq, …}: their heads
local function push_heads(keys, args)
  local heads = {}
  local timeline, max = args[1], args[2]
  local milliseconds = now()
  for _, channel in ipairs(channels_of(keys)) do
    local _, head = names(channel)
    local id, seq = head_of(head, timeline, max)
    heads[#heads + 1] = id or start_of(timeline, milliseconds)
    heads[#heads + 1] = seq
  end
  return heads
end

-- Why `since` is no position in this history; nil if it is one. `id` is the head, nil if nothing was recorded.
local function position_problem(since_timeline, since_seq, since_time, id, timeline, milliseconds)
  if since_timeline < timeline then return 'history_replaced' end
  if not id and since_seq > 0 then return 'history_expired' end
  -- The timeline of a topic begins with its first entry, so it is later than that of a position before it.
  local present = id and timeline_of(id) or timeline
  local is_of_it = present == since_timeline or (since_seq == 0 and id and present > since_timeline)
  if not is_of_it then return 'history_replaced' end
  -- A position before the first entry is valid only for as long as a head is certainly kept.
  return since_seq == 0 and milliseconds - since_time > DAY * 1000 and 'history_expired' or nil
end

-- KEYS: the channel, or its keys. ARGV: the timeline of the server, the largest envelope allowed, the last id that the
-- reader has, the most entries, the most bytes.
-- → {reason for a gap or '', head id, head seq, 1 when complete, id, envelope, id, envelope, …}
local function push_history(keys, args)
  local timeline, max, since, count, bytes = args[1], args[2], args[3], tonumber(args[4]), tonumber(args[5])
  local history, head = names(channels_of(keys)[1])
  local milliseconds = now()
  local head_id, seq, ttl = head_of(head, timeline, max)
  local id = head_id or start_of(timeline, milliseconds)
  if since == id then return { '', id, seq, 1 } end
  local since_timeline, since_seq, since_time = since:match('^(%w+)%.(%d+)%.(%d+)%-%d+$')
  if not since_timeline then return gap('unknown_id', id, seq) end
  since_seq = tonumber(since_seq)
  local problem = position_problem(since_timeline, since_seq, tonumber(since_time), head_id, timeline, milliseconds)
  if problem then return gap(problem, id, seq) end
  if not head_id then return { '', id, 0, 1 } end
  if since_seq > seq then return gap('history_replaced', id, seq) end

  local from = since_seq == 0 and '-' or '(' .. since:match('(%d+%-%d+)$')
  local first = redis.call('XRANGE', history, from, '+', 'COUNT', 1)[1]
  -- The head is later, but there are no entries: they have expired or were evicted.
  if not first then return gap('history_expired', id, seq) end
  local reason = gap_before(first, since, since_seq, milliseconds - ttl * 1000, id)
  if reason then return gap(reason, id, seq) end
  local result = take_entries({ '', id, seq, 0 }, history, from, count, bytes)
  if entry_seq_of(result[#result - 1]) == seq then result[4] = 1 end
  return result
end

local function after_timeline(id)
  return id:match('%.(.*)$')
end

-- The place in the stream from which at most `count` entries lead to the head, each the one before the next and none too
-- old; nil if there are none. It looks through few bytes, so that large entries do not block Redis.
local function newest_from(history, head_id, count, oldest)
  local from, expected, number, bytes = nil, nil, 0, 0
  local to = '+'
  while number < count do
    local asked = math.min(READ_AT_ONCE, count - number)
    local entries = redis.call('XREVRANGE', history, to, oldest, 'COUNT', asked)
    for _, entry in ipairs(entries) do
      local id, previous, envelope = entry[2][2], entry[2][4], entry[2][6]
      -- A head that was renewed has another timeline than its entry.
      local is_next = expected == id or (number == 0 and after_timeline(id) == after_timeline(head_id))
      bytes = bytes + #envelope
      if not is_next or (number > 0 and bytes > MAX_NEWEST_BYTES) then return from end
      from, expected, number = entry[1], previous, number + 1
      to = '(' .. from
    end
    if #entries < asked then return from end
  end
  return from
end

-- KEYS: the channel, or its keys. ARGV: the timeline of the server, the largest envelope allowed, how many of the newest
-- entries, the most entries and the most bytes of this page.
-- → as push_history: these entries, or the first of them
local function push_newest(keys, args)
  local timeline, max, newest, count, bytes = args[1], args[2], tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local history, head = names(channels_of(keys)[1])
  local milliseconds = now()
  local head_id, seq, ttl = head_of(head, timeline, max)
  if not head_id then return { '', start_of(timeline, milliseconds), 0, 1 } end
  local oldest = string.format('%.0f', milliseconds - ttl * 1000)
  local from = newest_from(history, head_id, newest, oldest)
  if not from then return { '', head_id, seq, 1 } end
  local result = take_entries({ '', head_id, seq, 0 }, history, from, count, bytes)
  local last = #result - 1
  if entry_seq_of(result[last]) == seq then
    result[4] = 1
    -- A reader that continues from here must not be told that this was of an older timeline.
    result[last] = head_id
  end
  return result
end

-- KEYS: channels, or the keys of one. ARGV: the timeline of the server, the largest envelope allowed, the last id that a
-- node has of each channel. → the indexes of those whose head is another one.
-- It also prolongs the heads: a topic that nodes hold may be quiet for longer than a day and keep its position.
local function push_compare(keys, args)
  local different = {}
  local timeline, max = args[1], args[2]
  for i, channel in ipairs(channels_of(keys)) do
    local known = args[i + 2]
    local _, head = names(channel)
    local id, _, ttl = head_of(head, timeline, max)
    if id then redis.call('EXPIRE', head, ttl + DAY) end
    local is_start = not id and known:match('^(%w+)%.0%.') == timeline
    if id ~= known and not is_start then different[#different + 1] = i end
  end
  return different
end

-- Called by each node every second.
-- KEYS: {SHARD}:timeline, {SHARD}:tick:NODE. ARGV: the node's own channel, the last tick that was answered ('' at first),
-- the next one, a random name, '1' to begin a new timeline in any case, the timeline that the last tick was answered with,
-- and when that was and what that clock should say now, both in microseconds.
-- → {timeline, number of subscribers of the node's own channel, now in microseconds}
-- A Redis that does not know the last tick has gone back in time: later publications are lost. If the timeline began
-- after the last tick, another node has noticed this before. A new timeline is later than every head that may be lost,
-- although the clock of a promoted replica may be behind.
local function push_tick(keys, args)
  local channel, next, name = args[1], args[3], args[4]
  local known, answered, elapsed = tonumber(args[2]), tonumber(args[7] or ''), tonumber(args[8] or '')
  local stored = redis.call('HMGET', keys[1], 'timeline', 'began')
  local timeline, began = stored[1], tonumber(stored[2] or '')
  -- When slots move, the ticks of a server may have to go to another of its slots, and its timeline with them.
  if not known and args[6] ~= '' and (not timeline or timeline < args[6]) then
    timeline, began = args[6], microseconds_in(args[6])
    redis.call('HSET', keys[1], 'timeline', timeline, 'began', string.format('%.0f', began))
  end
  if not timeline and not known then
    timeline, began = FIRST_TIMELINE, 0
    redis.call('HSET', keys[1], 'timeline', timeline, 'began', '0')
  end
  local tick = tonumber(redis.call('GET', keys[2]) or '')
  local _, time = now()
  local microseconds = microseconds_of(time)
  -- The names are compared too: if the clock was ahead when the timeline began, it must not look like a new one.
  local is_noticed = began and answered and began > answered and args[6] ~= timeline
  if not timeline or (not is_noticed and (args[5] == '1' or (known and (not tick or tick < known)))) then
    local begins = math.max(microseconds, elapsed or 0, (began or 0) + 1)
    timeline = timeline_at(begins) .. name
    redis.call('HSET', keys[1], 'timeline', timeline, 'began', string.format('%.0f', begins))
  end
  -- A late tick from an abandoned link must not replace a later one: that would look like a rollback.
  if not tick or tick < tonumber(next) then redis.call('SET', keys[2], next, 'EX', DAY) end
  return { timeline, redis.call('PUBLISH', channel, next), string.format('%.0f', microseconds) }
end

-- ── presence ────────────────────────────────────────────────────────────────────────────────────────────────────────
-- Who is on a topic. An owner, which is a node, counts its own connections in {CHANNEL}:members:OWNER; what all owners
-- count together is in {CHANNEL}:members. {CHANNEL}:presence has the version of that list, its mark and, for each owner, the number
-- of its last change, its anonymous connections, when its lease ends, and its users: "CHANGE ANONYMOUS EXPIRES USERS".

local function presence_of(channel, owner)
  local tag = '{' .. channel .. '}'
  local presence = { key = tag .. ':presence', members = tag .. ':members', own = tag .. ':members:' .. owner, state = {} }
  local flat = redis.call('HGETALL', presence.key)
  for i = 1, #flat, 2 do presence.state[flat[i]] = flat[i + 1] end
  presence.joined, presence.updated, presence.left, presence.bytes = {}, {}, {}, 0
  return presence
end

local function owner_in(presence, owner)
  local change, anonymous, expires, users = (presence.state['@' .. owner] or ''):match('^(%d+) (%d+) (%d+) (%d+)$')
  return change or '0', tonumber(anonymous or '0'), tonumber(expires or '0'), tonumber(users or '0')
end

local function count_in(entry)
  return entry and tonumber(entry:match('^{"connections":(%d+)')) or 0
end

local function member_entry(connections, since, info)
  local rest = info ~= '' and ',"info":' .. info or ''
  return '{"connections":' .. string.format('%d', connections) .. ',"since":' .. string.format('%.0f', since) .. rest .. '}'
end

local function as_event(user, entry)
  return '{"user":' .. cjson.encode(user) .. ',' .. entry:sub(2)
end

-- `count` connections of the owner, 0 if it has none any more. `info` and `ids` are JSON, or ''.
local function change_member(presence, user, count, since, info, ids)
  local before = count_in(redis.call('HGET', presence.own, user))
  if count == 0 then
    redis.call('HDEL', presence.own, user)
  else
    local entry = member_entry(count, since, info)
    if ids ~= '' then entry = entry:sub(1, -2) .. ',"ids":' .. ids .. '}' end
    redis.call('HSET', presence.own, user, entry)
  end
  local old = redis.call('HGET', presence.members, user)
  local total = math.max(0, count_in(old) + count - before)
  if total == 0 then
    if not old then return end
    redis.call('HDEL', presence.members, user)
    presence.left[#presence.left + 1] = cjson.encode(user)
    presence.bytes = presence.bytes + #user
    return
  end
  if old then
    local first, rest = old:match('^{"connections":%d+,"since":(%d+)(.*)}$')
    since = count == 0 and tonumber(first) or math.min(tonumber(first), since)
    if count == 0 then info = rest:sub(#',"info":' + 1) end
  end
  local new = member_entry(total, since, info)
  if new == old then return end
  redis.call('HSET', presence.members, user, new)
  local list = old and presence.updated or presence.joined
  list[#list + 1] = as_event(user, new)
  presence.bytes = presence.bytes + #user + #new
end

local function listed(name, list)
  return #list > 0 and ',"' .. name .. '":[' .. table.concat(list, ',') .. ']' or ''
end

-- Gives the change a version and publishes it to the nodes, as a command that they follow in this order. A master that was
-- replaced while it was frozen may still number a few changes of its own: by the marks nodes know whose change came before.
local function publish_presence(presence, channel, anonymous, is_sharded)
  local state = presence.state
  local is_changed = #presence.joined + #presence.updated + #presence.left > 0
  if not is_changed and anonymous == tonumber(state.anonymous or '0') then return end
  local version = string.format('%d', tonumber(state.version or '0') + 1)
  local before = state.mark or ''
  local _, time = now()
  state.version, state.mark = version, timeline_at(microseconds_of(time))
  local count = redis.call('HLEN', presence.members)
  redis.call('HSET', presence.key, 'version', version, 'mark', state.mark, 'anonymous', string.format('%d', anonymous),
    'count', count)
  local message = '{"control":"presence","epoch":"' .. state.epoch .. '","version":' .. version
    .. ',"mark":"' .. state.mark .. '","after":"' .. before .. '","count":' .. count .. ',"anonymous":' .. string.format('%d', anonymous)
    .. listed('joined', presence.joined) .. listed('updated', presence.updated) .. listed('left', presence.left) .. '}'
  publish(channel, message, is_sharded)
end

-- Redis may evict one key of a topic and keep the others: then nobody knows who is there, and every owner begins anew.
local function is_whole(presence, owner)
  if not presence.state.epoch then return true end
  local change, _, _, users = owner_in(presence, owner)
  local is_there = redis.call('HLEN', presence.members) == tonumber(presence.state.count or '0')
  if is_there and (change == '0' or redis.call('HLEN', presence.own) == users) then return true end
  redis.call('UNLINK', presence.key, presence.members, presence.own)
  return false
end

-- The list ends with the last lease. What one owner has stays longer, so that others can take it away.
local function expire_with_leases(presence, milliseconds, lease)
  local last = milliseconds
  for field in pairs(presence.state) do
    local _, _, expires = owner_in(presence, field:sub(2))
    last = math.max(last, expires)
  end
  local left = string.format('%.0f', last - milliseconds + 1000)
  redis.call('PEXPIRE', presence.key, left)
  redis.call('PEXPIRE', presence.members, left)
  redis.call('PEXPIRE', presence.own, string.format('%.0f', math.max(last - milliseconds, lease) * 4))
end

-- When Redis went back in time, nodes know versions that this list does not have yet, or has with another change: in another
-- epoch they read it again.
local function begin_epoch(presence, time)
  presence.state.epoch = timeline_at(microseconds_of(time))
  redis.call('HSET', presence.key, 'epoch', presence.state.epoch)
end

-- As for a publication: what is refused half way would leave a list that is not the sum of its parts.
local function presence_forbidden(presence, channel, is_sharded)
  if not redis.acl_check_cmd then return nil end
  local needed = {
    { 'HSET', presence.key, 'epoch', '' }, { 'HGET', presence.members, '' }, { 'HDEL', presence.members, '' },
    { 'HLEN', presence.own }, { 'HSCAN', presence.own, '0' }, { 'PEXPIRE', presence.own, '1' },
    { 'UNLINK', presence.own }, { is_sharded and 'SPUBLISH' or 'PUBLISH', channel, '' },
  }
  for _, command in ipairs(needed) do
    if not redis.acl_check_cmd(unpack(command)) then return command[1] .. ' ' .. command[2] end
  end
  return nil
end

-- Owners whose lease has ended, as far as the caller may end them: not after an outage, in which all leases end.
local function lapsed_in(presence, milliseconds, is_in_time)
  local lapsed = {}
  if not is_in_time or milliseconds < tonumber(presence.state.quiet or '0') then return lapsed end
  for field in pairs(presence.state) do
    local owner = field:match('^@(.*)$')
    if owner then
      local _, _, expires = owner_in(presence, owner)
      if expires < milliseconds then lapsed[#lapsed + 1] = owner end
    end
  end
  return lapsed
end

-- KEYS: the channel, or its keys. ARGV: the owner, the number of its last change, that of this one, its lease in
-- milliseconds, its anonymous connections, '1' for SPUBLISH, epoch and version of the list as the node last heard of them;
-- then for each user that changed: user, connections, since in milliseconds, info, ids of the connections. Numbers of changes
-- are even, and an owner never uses one twice: otherwise a Redis that lost changes might have another one of the same number.
-- → {'ok' or 'resync', epoch, version, mark, number of the last change of the owner, owners whose lease has ended, …}
-- 'resync' means that Redis lost changes of this owner, or that others ended its lease: nothing was changed.
local function push_presence(keys, args)
  local channel = channels_of(keys)[1]
  local owner, base, next, lease, is_sharded = args[1], args[2], args[3], tonumber(args[4]), args[6] == '1'
  local presence = presence_of(channel, owner)
  local state = presence.state
  local change, anonymous_before, expires = owner_in(presence, owner)
  local milliseconds, time = now()
  local missing = presence_forbidden(presence, channel, is_sharded)
  if missing then return redis.error_reply('NOPERM this user has no permission for ' .. missing) end
  if not is_whole(presence, owner) then return { 'resync', '', 0, '', '0' } end
  local is_behind = state.epoch == args[7] and tonumber(state.version or '0') < tonumber(args[8])
  if state.epoch and (is_behind or change ~= base) then begin_epoch(presence, time) end
  local place = { state.epoch or '', tonumber(state.version or '0'), state.mark or '' }
  if change ~= base then return { 'resync', place[1], place[2], place[3], change } end
  -- What was left of a list that is gone.
  if change == '0' then redis.call('UNLINK', presence.own) end
  if not state.epoch then
    begin_epoch(presence, time)
    -- It may have outlived its version, and every owner writes its share again.
    redis.call('UNLINK', presence.members)
  end
  -- Every node renews its lease when a third of it is over. One that is late was cut off, or Redis was away: then those of
  -- others may have ended too, who are about to come back.
  local is_in_time = expires - milliseconds >= lease / 2
  if change ~= '0' and not is_in_time then
    state.quiet = string.format('%.0f', milliseconds + lease)
    redis.call('HSET', presence.key, 'quiet', state.quiet)
  end
  for i = 9, #args, 5 do
    change_member(presence, args[i], tonumber(args[i + 1]), tonumber(args[i + 2]), args[i + 3], args[i + 4])
  end
  local anonymous = tonumber(args[5])
  local total = math.max(0, tonumber(state.anonymous or '0') + anonymous - anonymous_before)
  publish_presence(presence, channel, total, is_sharded)
  local users = redis.call('HLEN', presence.own)
  if anonymous == 0 and users == 0 then
    redis.call('HDEL', presence.key, '@' .. owner)
    state['@' .. owner] = nil
    next = '0'
  else
    state['@' .. owner] = string.format('%s %d %.0f %d', next, anonymous, milliseconds + lease, users)
    redis.call('HSET', presence.key, '@' .. owner, state['@' .. owner])
  end
  expire_with_leases(presence, milliseconds, lease)
  local reply = { 'ok', state.epoch, tonumber(state.version or '0'), state.mark or '', next }
  for _, it in ipairs(lapsed_in(presence, milliseconds, is_in_time)) do reply[#reply + 1] = it end
  return reply
end

-- Takes away what an owner left whose lease has ended: by whoever comes first, the others find nothing.
-- KEYS: the channel, or its keys. ARGV: the owner, how many members at most, '1' for SPUBLISH. → 1 if there are more
local function push_purge(keys, args)
  local channel = channels_of(keys)[1]
  local owner, most, is_sharded = args[1], args[2], args[3] == '1'
  local presence = presence_of(channel, owner)
  local change, anonymous, expires = owner_in(presence, owner)
  local milliseconds = now()
  local quiet = tonumber(presence.state.quiet or '0')
  if change == '0' or expires >= milliseconds or milliseconds < quiet then return 0 end
  if not is_whole(presence, owner) then return 0 end
  local found = redis.call('HSCAN', presence.own, '0', 'COUNT', most)[2]
  for i = 1, #found, 2 do
    if presence.bytes > MAX_PURGED_BYTES then break end
    change_member(presence, found[i], 0, 0, '', '')
  end
  local left = redis.call('HLEN', presence.own)
  local are_more = left > 0
  local total = tonumber(presence.state.anonymous or '0')
  if are_more then
    -- With an odd number, which is none of the owner's, so that it notices if it was only asleep.
    local number = math.floor(tonumber(change) / 2) * 2 + 1
    local record = string.format('%.0f %d %.0f %d', number, anonymous, expires, left)
    redis.call('HSET', presence.key, '@' .. owner, record)
  else
    redis.call('HDEL', presence.key, '@' .. owner)
    total = math.max(0, total - anonymous)
  end
  publish_presence(presence, channel, total, is_sharded)
  return are_more and 1 or 0
end

-- KEYS: the channel, or its keys. ARGV: a cursor ('0' at first), about how many members.
-- → {epoch, version, mark, users, anonymous connections, the next cursor ('0' at the end), user, entry, user, entry, …}
local function push_members(keys, args)
  local presence = presence_of(channels_of(keys)[1], '')
  local state = presence.state
  local page = redis.call('HSCAN', presence.members, args[1], 'COUNT', args[2])
  local count = redis.call('HLEN', presence.members)
  local place = { state.epoch or '', tonumber(state.version or '0'), state.mark or '' }
  local reply = { place[1], place[2], place[3], count, tonumber(state.anonymous or '0'), page[1] }
  for _, text in ipairs(page[2]) do reply[#reply + 1] = text end
  return reply
end

-- KEYS: the channel, or its keys. ARGV: a user. → {entry or '', owner, entry of the owner, …}
local function push_member(keys, args)
  local channel = channels_of(keys)[1]
  local presence = presence_of(channel, '')
  local reply = { redis.call('HGET', presence.members, args[1]) or '' }
  for field in pairs(presence.state) do
    local owner = field:match('^@(.*)$')
    local entry = owner and redis.call('HGET', presence.own .. owner, args[1])
    if entry then
      reply[#reply + 1] = owner
      reply[#reply + 1] = entry
    end
  end
  return reply
end

local function push_version()
  return VERSION
end

local functions = {
  push_publish = push_publish,
  push_heads = push_heads,
  push_history = push_history,
  push_newest = push_newest,
  push_compare = push_compare,
  push_tick = push_tick,
  push_presence = push_presence,
  push_purge = push_purge,
  push_members = push_members,
  push_member = push_member,
  push_version = push_version,
}

-- Only a library registers functions. For a script, functions.ts adds a line that calls one of them. There is no loop
-- here because Lua has no pairs() while a library is loaded.
if redis.register_function then
  redis.register_function('push_publish', push_publish)
  -- When Redis is full, nodes must still be able to read.
  local flags = { 'allow-oom' }
  redis.register_function({ function_name = 'push_heads', callback = push_heads, flags = flags })
  redis.register_function({ function_name = 'push_history', callback = push_history, flags = flags })
  redis.register_function({ function_name = 'push_newest', callback = push_newest, flags = flags })
  redis.register_function({ function_name = 'push_compare', callback = push_compare, flags = flags })
  redis.register_function({ function_name = 'push_tick', callback = push_tick, flags = flags })
  redis.register_function({ function_name = 'push_presence', callback = push_presence, flags = flags })
  redis.register_function({ function_name = 'push_purge', callback = push_purge, flags = flags })
  redis.register_function({ function_name = 'push_members', callback = push_members, flags = { 'no-writes' } })
  redis.register_function({ function_name = 'push_member', callback = push_member, flags = { 'no-writes' } })
  redis.register_function({ function_name = 'push_version', callback = push_version, flags = flags })
end
