import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { refusalOf } from '../helpers/app.ts'
import { listenTo } from '../helpers/listener.ts'
import { API_KEY, cleanups, type InteropNode, path, run, startInteropNode } from '../helpers/processes.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'

const all = cleanups()
let redis: RedisServer
let node: InteropNode

before(async () => {
  redis = await startRedis(all)
  node = await startInteropNode(all, redis.url)
})
after(() => all.end())

function environment() {
  return {
    REDIS_HOST: '127.0.0.1',
    REDIS_PORT: String(redis.port),
    PUSH_URL: `${node.origin}/push`,
    PUSH_API_KEY: API_KEY,
  }
}

const php = (file: string, args: string[] = [], env = {}) =>
  run('php', [path(`example/php/${file}`), ...args], { env: { ...environment(), ...env } })

/** PHP code that finds a connected `$redis`. */
const phpCode = (code: string) =>
  run('php', ['-r', `$redis = new Redis; $redis->connect('127.0.0.1', ${redis.port}); ${code}`])

const rejectedNotes = async () => (await redis.admin.lrange('push:rejected', 0, -1)).map(text => JSON.parse(text))

test('every example is PHP', async () => {
  for (const file of readdirSync(path('example/php')).filter(name => name.endsWith('.php'))) {
    const { code, stdout } = await run('php', ['-l', path(`example/php/${file}`)])
    assert.equal(code, 0, stdout)
  }
})

test('order.php: one PUBLISH reaches the customer and says how many nodes have them', async t => {
  const customer = await listenTo(t, `${node.url}?user=42`)
  const { stdout } = await php('order.php', ['42', '1001', 'zwei Pizzen, 辣'])
  assert.equal(stdout, 'order 1001: 1 node(s) have customer 42 online\n')
  assert.deepEqual(await customer.next('order.created'), {
    type: 'order.created',
    payload: { id: 1001, note: 'zwei Pizzen, 辣', options: {} },
    topic: 'user:42',
  })
  assert.match((await php('order.php', ['43'])).stdout, /: 0 node\(s\) have customer 43 online/)
})

test('order.php: text that is no UTF-8 arrives with U+FFFD in its place', async t => {
  const customer = await listenTo(t, `${node.url}?user=latin`)
  const script = `php ${path('example/php/order.php')} latin 1 "$(printf 'K\\344se')"`
  const { stderr, code } = await run('sh', ['-c', script], { env: environment() })
  assert.deepEqual([code, stderr], [0, ''])
  assert.equal(((await customer.next('order.created')).payload as { note: string }).note, 'K\ufffdse')
})

test('order-curl.php: the same over HTTP, and what went wrong in words', async t => {
  const customer = await listenTo(t, `${node.url}?user=curl`)
  assert.equal((await php('order-curl.php', ['curl', '7'])).stdout, 'delivered to 1 connection(s) on 1 node(s)\n')
  assert.deepEqual((await customer.next('order.created')).payload, { id: 7, options: {} })
  assert.match(customer.texts.at(-1)!, /"options":\{\}/)

  const wrongKey = await php('order-curl.php', ['curl'], { PUSH_API_KEY: 'guessed' })
  assert.equal(wrongKey.code, 1)
  assert.match(wrongKey.stderr, /^the push API answered 401: PUSH_ERR_UNAUTHENTICATED .*missing or wrong\n$/)
  const reserved = await php('order-curl.php', ['curl', '7', 'welcome'])
  assert.match(reserved.stderr, /^the push API answered 400: PUSH_ERR_RESERVED_TYPE .*"?welcome"?/)
  const notOurs = await php('order-curl.php', [], { PUSH_URL: `${node.origin}/elsewhere` })
  assert.match(notOurs.stderr, /^the push API answered 404: Route POST:\/elsewhere not found\n$/)
  const nobody = await php('order-curl.php', [], { PUSH_URL: `http://127.0.0.1:${await freePort()}/push` })
  assert.match(nobody.stderr, /^the push API cannot be reached: /)
  assert.equal(nobody.code, 1)
})

test('order-curl.php without the extension curl: the same over a stream', async t => {
  const customer = await listenTo(t, `${node.url}?user=stream`)
  const withoutCurl = (args: string[], env = {}) =>
    run('php', ['-d', 'disable_functions=curl_init', path('example/php/order-curl.php'), ...args], {
      env: { ...environment(), ...env },
    })
  const { stdout, stderr } = await withoutCurl(['stream', '7'])
  assert.deepEqual([stdout, stderr], ['delivered to 1 connection(s) on 1 node(s)\n', ''])
  assert.deepEqual((await customer.next('order.created')).payload, { id: 7, options: {} })
  const wrongKey = await withoutCurl(['stream'], { PUSH_API_KEY: 'guessed' })
  assert.match(wrongKey.stderr, /^the push API answered 401: PUSH_ERR_UNAUTHENTICATED .*missing or wrong\n$/)
  const nobody = await withoutCurl([], { PUSH_URL: `http://127.0.0.1:${await freePort()}/push` })
  assert.match(nobody.stderr, /^the push API cannot be reached: .*Connection refused\n$/)
  assert.deepEqual([wrongKey.code, nobody.code], [1, 1])
})

test('an example without the extension redis says so in a sentence', async () => {
  for (const file of ['order.php', 'receipt.php', 'recorded.php', 'ticket.php', 'jobs.php']) {
    const { code, stdout, stderr } = await run('php', ['-n', path(`example/php/${file}`)])
    const sentence = 'This example needs the PHP extension redis (phpredis): pecl install redis\n'
    assert.deepEqual([code, stdout, stderr], [1, '', sentence], file)
  }
})

test('order-curl.php: Redis away is a 503 within the deadline', async t => {
  const alone = await startInteropNode(t, `redis://127.0.0.1:${await freePort()}`, { LOG_LEVEL: 'silent' })
  const { code, stderr } = await php('order-curl.php', [], { PUSH_URL: `${alone.origin}/push` })
  assert.equal(code, 1)
  assert.match(stderr, /^the push API answered 503: PUSH_ERR_BROKER_AWAY Redis cannot be reached/)
})

test('receipt.php: delivered, skipped, rejected, and nobody', async t => {
  const other = await startInteropNode(t, redis.url)
  const connections = [node.url, node.url, other.url].map(url => listenTo(t, `${url}?user=7`))
  const [first] = await Promise.all(connections)
  const delivered = await php('receipt.php', ['user:7', 'notice', '{"a":{},"b":[]}'])
  assert.deepEqual(
    [delivered.code, delivered.stdout],
    [0, 'delivered 3, skipped 0, 2 of 2 node(s) answered\n'],
    delivered.stderr,
  )
  assert.deepEqual((await first!.next('notice')).payload, { a: {}, b: [] })

  const refused = await php('receipt.php', ['user:7', 'order', '{"id":"seven"}'])
  const [summary, ...reasons] = refused.stdout.trim().split('\n')
  assert.deepEqual([refused.code, summary], [1, 'delivered 0, skipped 0, 2 of 2 node(s) answered'])
  assert.equal(reasons.length, 2)
  for (const reason of reasons) assert.match(reason, /^rejected by \S+: schema: .*id/)

  const nobody = await php('receipt.php', ['user:8'])
  assert.deepEqual(
    [nobody.code, nobody.stdout],
    [0, '0 nodes: nobody listens to user:8 now (2 node(s) live)\n'],
    nobody.stderr,
  )
})

test('recorded.php: a client that was away gets what it missed, once, in order, on another node', async t => {
  const other = await startInteropNode(t, redis.url)
  const before = await listenTo(t, `${node.url}?user=away`)
  const first = await php('recorded.php', ['away', '1'])
  assert.deepEqual([first.code, first.stdout], [0, 'order 1: number 1 for customer away, 1 node(s)\n'], first.stderr)
  const { id, ...message } = await before.next('order.created')
  assert.deepEqual(message, { type: 'order.created', payload: { id: 1 }, topic: 'user:away', seq: 1 })
  before.socket.terminate()
  await before.closed

  for (const order of ['2', '3', '3']) assert.equal((await php('recorded.php', ['away', order])).code, 0)
  const again = await php('recorded.php', ['away', '2'])
  assert.match(again.stdout, /^order 2: number 2 for customer away, .*, recorded before\n$/)
  const since = encodeURIComponent(JSON.stringify({ 'user:away': id }))
  const after = await listenTo(t, `${other.url}?user=away&since=${since}`)
  const { seq, recovered } = after.welcome.topics['user:away']!
  assert.deepEqual([seq, recovered], [3, true])
  await php('recorded.php', ['away', '4'])
  for (const order of [2, 3, 4]) {
    const { payload, seq } = await after.next('order.created')
    assert.deepEqual([payload, seq], [{ id: order }, order])
  }
  assert.equal(after.messages.length, 4)

  const refused = await php('recorded.php', ['away', '5', 'welcome'])
  assert.equal(refused.code, 1)
  assert.match(refused.stderr, /^PUSH_ERR_RESERVED_TYPE .*"welcome"/)
})

test('ticket.php: PHP says who the page is, once', async t => {
  const { stdout: ticket } = await php('ticket.php', ['42', 'channel:orders'])
  assert.match(ticket, /^[0-9a-f]{48}$/)
  const page = await listenTo(t, `${node.url}?ticket=${ticket}`)
  assert.equal(page.welcome.user, '42')
  page.send('subscribe', { topic: 'channel:orders' }, 1)
  await page.next('subscribed')
  page.send('subscribe', { topic: 'channel:others' }, 2)
  assert.equal(((await page.next('error')).payload as { code: string }).code, 'PUSH_ERR_FORBIDDEN')
  const again = await refusalOf(`${node.url}?ticket=${ticket}`)
  assert.deepEqual([again.status, again.body?.code], [401, 'PUSH_ERR_UNAUTHENTICATED'])
})

for (const framework of ['laravel', 'thinkphp6']) {
  test(`${framework}.php: publishes and writes tickets past the prefix`, async t => {
    const user = framework === 'laravel' ? 'laravel' : 'thinkphp'
    const client = await listenTo(t, `${node.url}?user=${user}`)
    const files = [path(`test/interop/stubs/${framework}.php`), path(`example/php/${framework}.php`)]
    const { stdout, stderr } = await run('php', files, { env: environment() })
    const { nodes, trap, ticket, recorded } = JSON.parse(stdout || stderr)
    assert.equal(nodes, 1)
    assert.deepEqual((await client.next('order.created')).payload, {})
    if (framework === 'laravel') {
      const { id, seq, payload } = await client.next('order.paid')
      assert.deepEqual([recorded, payload], [[id, seq, 1, 0], { id: 7 }])
    }
    assert.equal((await listenTo(t, `${node.url}?ticket=${ticket}`)).welcome.user, user)
    // The trap itself: a prefixed channel that nobody hears, a ticket of another name that no node finds.
    if (framework === 'laravel') assert.equal(trap, 0)
    else assert.equal((await refusalOf(`${node.url}?ticket=${trap}`)).status, 401)
  })
}

test('wrong JSON from PHP is counted, noted, told by receipt where it can be, and harms nobody', async t => {
  const client = await listenTo(t, `${node.url}?user=junk`)
  const before = (await node.status()).metrics
  await redis.admin.del('push:rejected')
  const { stdout, stderr } = await phpCode(`
    $send = fn (string $text) => $redis->publish('push:user:junk', $text);
    $send('{"type":"notice","payload":{"text":"K' . chr(228) . 'se"}}');
    $send((string) json_encode(['type' => 'notice', 'payload' => 'K' . chr(228) . 'se']));
    $send(json_encode([]));
    $send(json_encode(['typ' => 'notice', 'receipt' => 'typo-in-type']));
    $send(json_encode(['payload' => (object) [], 'receipt' => 'no-type']));
    $send(json_encode(['type' => 'notice', 'excpet' => ['user:1'], 'receipt' => 'typo']));
    $send(json_encode(['type' => 'order', 'payload' => [], 'receipt' => 'list']));
    $send("{'type':'notice'}");
    $send(chr(0xEF) . chr(0xBB) . chr(0xBF) . '{"type":"notice"}');
    $send(serialize(['type' => 'notice']));
    $send(json_encode(['type' => 'notice', 'payload' => str_repeat('x', 262144)]));
    $send(json_encode(['type' => 'order', 'payload' => ['id' => 5], 'receipt' => 'fine']));
    foreach (['typo-in-type', 'no-type', 'typo', 'list', 'fine'] as $token) {
        $answer = json_decode($redis->blPop(["push:receipt:$token"], 50)[1], true);
        echo $token, ' ', $answer['delivered'], ' ', $answer['rejected']['reason'] ?? 'accepted', "\\n";
    }`)
  assert.equal(stderr, '')
  assert.deepEqual(stdout.trim().split('\n'), [
    'typo-in-type 0 unknown_key',
    'no-type 0 type',
    'typo 0 unknown_key',
    'list 0 schema',
    'fine 1 accepted',
  ])

  assert.deepEqual(await client.next('order'), { type: 'order', payload: { id: 5 }, topic: 'user:junk' })
  assert.deepEqual(
    client.messages.map(({ type }) => type),
    ['welcome', 'order'],
  )
  const counted = (await node.status()).metrics
  const grown = Object.entries(counted).flatMap(([name, count]) => {
    const reason = /^publications_rejected_total\{(.*)\}$/.exec(name)?.[1]
    const growth = count - (before[name] ?? 0)
    return reason && growth > 0 ? [[reason, growth]] : []
  })
  assert.deepEqual(Object.fromEntries(grown), {
    encoding: 1,
    json: 4,
    shape: 1,
    unknown_key: 2,
    type: 1,
    schema: 1,
    too_large: 1,
  })
  const notes = await rejectedNotes()
  assert.equal(notes.length, 11)
  const messages = notes.map(({ reason, message }) => `${reason}: ${message}`).join('\n')
  for (const hint of [
    /encoding: .*JSON_INVALID_UTF8_SUBSTITUTE/,
    /json: the envelope is empty/,
    /json: .*byte order mark/,
    /too_large: .*limits\.publication allows 262144/,
    /shape: .*not a JSON object/,
    /unknown_key: .*did you mean "except"/,
    /unknown_key: .*did you mean "type"/,
  ]) {
    assert.match(messages, hint)
  }
})
