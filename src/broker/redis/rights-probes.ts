/** A command that does nothing, whose answer says whether the user has a right. */
export interface Probe {
  /** What the user lacks if Redis refuses the command. */
  right: string
  /** What the user lacks if Redis refuses the name in it. */
  pattern: string
  command: readonly [name: string, ...args: string[]]
  fails: string
}

/**
 * Every right that a node needs (docs/redis.md). Names are new, so that nobody listens to them and nothing is there; what
 * is written is removed by the same list, and ends by itself within a second.
 */
export function probesFor(
  prefix: string,
  token: string,
  cluster?: 'plain' | 'sharded',
): { asked: readonly Probe[]; heard: readonly Probe[] } {
  const channel = `${prefix}channel:${token}`
  const more = cluster === undefined ? ofOneMaster(prefix, token) : ofCluster(channel, cluster === 'sharded')
  return {
    asked: [...ofPlain(prefix, channel, token), ...ofRecording(channel), ...ofPresence(channel), ...more],
    heard: ofHearing(prefix, token, cluster === 'sharded'),
  }
}

type Line = readonly [command: Probe['command'], fails: string, right?: string]

const probe =
  (pattern: string) =>
  ([command, fails, right]: Line): Probe => ({
    right: right ?? `+${command[0].toLowerCase()}`,
    pattern,
    command,
    fails,
  })

function ofPlain(prefix: string, channel: string, token: string): Probe[] {
  const list = `${prefix}receipt:${token}`
  const ticket = `${prefix}ticket:${token}`
  const keys: Line[] = [
    [['RPUSH', list, 'x'], 'receipts'],
    [['LPUSH', list, 'x'], 'notes of rejected envelopes, and the bound on tickets of a user'],
    [['LRANGE', list, '0', '0'], 'receipts'],
    [['LTRIM', list, '1', '0'], 'the bound on lists: they grow'],
    [['RPUSH', list, 'x'], 'receipts'],
    [['EXPIRE', list, '1'], 'recording'],
    [['UNLINK', list], 'recording and presence'],
    // Again, for whoever has neither of the two before: nothing may stay.
    [['LTRIM', list, '1', '0'], 'the bound on lists: they grow'],
    [['SET', ticket, '{}', 'EX', '1', 'XX'], 'tickets, revocations and recovery'],
    [['GETDEL', ticket], 'tickets'],
    [['GET', ticket], 'keeping revoked users out, and recovery'],
  ]
  const others: Line[] = [
    [['PUBLISH', channel, ''], 'publishing, receipts, recording and presence'],
    [['PUBSUB', 'NUMSUB', channel], 'counting the nodes', '+pubsub|numsub'],
    [['TIME'], 'recording, recovery and presence'],
    [['INFO'], 'noticing that a replica was promoted without the latest publications'],
  ]
  return [...keys.map(probe(`~${prefix}*`)), ...others.map(probe(`&${prefix}*`))]
}

function ofRecording(channel: string): Probe[] {
  const history = `{${channel}}:history`
  const lines: Line[] = [
    [['XADD', history, 'NOMKSTREAM', '*', 'x', 'x'], 'recording and events'],
    [['XTRIM', history, 'MAXLEN', '0'], 'recording, and removing old events'],
    [['XRANGE', history, '-', '+', 'COUNT', '1'], 'recovery: clients get a gap instead of what they missed'],
    [['XREVRANGE', history, '+', '-', 'COUNT', '1'], 'the newest messages of a topic'],
    // It is refused before it is read, or found to be no library.
    [['FUNCTION', 'LOAD', ''], 'recording, until somebody else has loaded the functions', '+function|load'],
    [['FCALL', 'push_version', '0'], 'recording, recovery and presence'],
  ]
  return lines.map(probe(patternOf(channel)))
}

function ofPresence(channel: string): Probe[] {
  const hash = `{${channel}}:members`
  const lines: Line[] = [
    [['HSET', hash, 'x', 'x'], 'recording, recovery and presence'],
    [['PEXPIRE', hash, '1000'], 'presence'],
    [['HMGET', hash, 'x'], 'recording and recovery'],
    [['HGET', hash, 'x'], 'presence'],
    [['HGETALL', hash], 'presence'],
    [['HLEN', hash], 'presence'],
    [['HSCAN', hash, '0'], 'presence'],
    [['HDEL', hash, 'x'], 'presence'],
    [['UNLINK', hash], 'recording and presence'],
  ]
  return lines.map(probe(patternOf(channel)))
}

/** `~{push:*`: the keys of topics have the channel in braces. */
const patternOf = (channel: string) => `~{${channel.slice(0, channel.indexOf('channel:'))}*`

function ofOneMaster(prefix: string, token: string): Probe[] {
  const lines: Line[] = [[['MGET', `${prefix}ticket:${token}`], 'keeping revoked users out']]
  return lines.map(probe(`~${prefix}*`))
}

function ofCluster(channel: string, isSharded: boolean): Probe[] {
  const lines: Line[] = [
    [['CLUSTER', 'SLOTS'], 'being connected', '+cluster|slots'],
    [['CLUSTER', 'INFO'], 'noticing a server that was cut off', '+cluster|info'],
    [['ASKING'], 'publishing on a topic while its slot moves'],
    ...(isSharded ? ([[['SPUBLISH', channel, ''], 'publishing']] as const) : []),
  ]
  return lines.map(probe(`&${channel.slice(0, channel.indexOf('channel:'))}*`))
}

/** Not to `all` and `nodes`: whoever counts the nodes would count this. */
function ofHearing(prefix: string, token: string, isSharded: boolean): Probe[] {
  const [hear, leave] = isSharded ? ['SSUBSCRIBE', 'SUNSUBSCRIBE'] : ['SUBSCRIBE', 'UNSUBSCRIBE']
  return ['channel:', 'user:', 'connection:', 'node:'].flatMap(kind => {
    const name = `${prefix}${kind}${token}`
    const fails = kind === 'node:' ? 'being connected at all' : `topics that begin with ${kind}`
    const lines: Line[] = [
      [[kind === 'node:' ? 'SUBSCRIBE' : hear!, name], fails],
      [[kind === 'node:' ? 'UNSUBSCRIBE' : leave!, name], 'leaving topics: the node goes on receiving them'],
    ]
    return lines.map(probe(`&${prefix}${kind}*`))
  })
}
