import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { refusalOf } from '../helpers/app.ts'
import { listenTo } from '../helpers/listener.ts'
import { API_KEY, cleanups, type InteropNode, Program, path, run, startInteropNode } from '../helpers/processes.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { createAuthority } from '../helpers/tls.ts'
import { once } from '../helpers/waiting.ts'

/** Where Debian has it; PREDIS names another one. */
const PREDIS = process.env.PREDIS ?? '/usr/share/php/Predis/autoload.php'

const all = cleanups()
let redis: RedisServer
let node: InteropNode

before(async () => {
  redis = await startRedis(all)
  node = await startInteropNode(all, redis.url, { PRESENCE: '{"users":true}' })
})
after(() => all.end())

/** The handler is that of an application that throws whatever `@` says; Predis 1.1 has what PHP 8 calls deprecated. */
const PRELUDE = `
  set_error_handler(fn ($level, $text) => throw new ErrorException($text, 0, $level), E_WARNING | E_NOTICE);
  require '${path('php/autoload.php')}';
  use FastifyPushBridge\\{Message, Publisher, PushException, SignedCall};
  use FastifyPushBridge\\Http\\StreamHttp;
  use FastifyPushBridge\\Redis\\PhpRedis;
  use FastifyPushBridge\\Transport\\{HttpTransport, RedisTransport};
  function codeOf(callable $call): ?string {
    try { $call(); return null; } catch (PushException $problem) { return $problem->errorCode; }
  }`

const phpRedis = () => `$redis = new Redis(); $redis->connect('127.0.0.1', ${redis.port});`
const PUBLISHERS: Record<string, () => string> = {
  phpredis: () => `${phpRedis()} $publisher = Publisher::redis($redis);`,
  // What Laravel and others set: it must change nothing.
  'phpredis with a prefix and a serializer': () => `${phpRedis()}
    $redis->setOption(Redis::OPT_PREFIX, 'laravel_'); $redis->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);
    $publisher = Publisher::redis($redis);`,
  Predis: () => `require '${PREDIS}';
    $publisher = Publisher::redis(new Predis\\Client('tcp://127.0.0.1:${redis.port}', ['prefix' => 'laravel_']));`,
  curl: () => `$publisher = Publisher::http('${node.origin}/push', '${API_KEY}');`,
  streams: () =>
    `$publisher = new Publisher(new HttpTransport('${node.origin}/push', '${API_KEY}', new StreamHttp()));`,
}

/** Runs PHP that knows `$publisher` and returns what it prints, as JSON. */
async function php<T>(name: string, code: string): Promise<T> {
  const { code: exit, stdout, stderr } = await run('php', ['-r', `${PRELUDE} ${PUBLISHERS[name]!()} ${code}`])
  assert.deepEqual([exit, stderr], [0, ''], stdout)
  return JSON.parse(stdout) as T
}

for (const [index, name] of Object.keys(PUBLISHERS).entries()) {
  const user = `of${index}`

  test(`${name}: publishes, records once, says who got it, and reads the history`, async t => {
    const page = await listenTo(t, `${node.url}?user=${user}`)
    const answers = await php<Record<string, unknown>[]>(
      name,
      `$to = 'user:${user}';
      $recorded = Message::of('order.paid', ['id' => 8, 'note' => (object) [], 'tags' => []])->recorded(10, 60, 'order-8');
      $results = [
        $publisher->publish($to, Message::of('notice', 'Käse 辣')->withReceipt()),
        $publisher->publish($to, Message::of('notice')->except($to)->withReceipt()),
        $publisher->publish($to, Message::of('notice', 2.0)->from('7')->numbered(5)),
        $publisher->publish($to, $recorded),
        $publisher->publish($to, $recorded->withReceipt()),
        $publisher->publish($to, Message::of('order.sent', ['id' => 8])->recorded(10, 60)),
      ];
      $answers = array_map(fn ($result) => $result->toArray(), $results);
      $answers[] = $publisher->history($to, ['limit' => 1]);
      $answers[] = $publisher->history($to, ['since' => $results[3]->id()]);
      $answers[] = $publisher->history($to, ['since' => 'none of ours', 'last' => 1]);
      echo json_encode($answers);`,
    )
    const [got, skipped, plain, first, again, second, newest, rest, unknown] = answers as [
      Record<string, unknown>,
      ...Record<string, { payload: unknown; id: string }[]>[],
    ]
    const topic = `user:${user}`
    assert.deepEqual(got, { topic, nodes: 1, delivered: 1, skipped: 0, complete: true })
    assert.deepEqual([skipped!.delivered, skipped!.skipped, skipped!.reasons, plain!.nodes], [
      0,
      1,
      { except: 1 },
      1,
    ] as unknown[])
    assert.deepEqual([first!.seq, again!.seq, again!.id, again!.duplicate], [1, 1, first!.id, true] as unknown[])
    assert.equal(second!.seq, 2)
    assert.deepEqual([newest!.seq, newest!.messages!.map(({ payload }) => payload)], [2, [{ id: 8 }]] as unknown[])
    assert.deepEqual([rest!.complete, rest!.messages!.map(({ id }) => id)], [true, [second!.id]] as unknown[])
    assert.deepEqual([unknown!.gap, unknown!.messages!.length], ['unknown_id', 1] as unknown[])

    await page.next('order.sent')
    const heard = page.texts.slice(1).map(text => JSON.parse(text) as Record<string, unknown>)
    assert.deepEqual(
      heard.map(({ type, payload }) => [type, payload]),
      [
        ['notice', 'Käse 辣'],
        ['notice', 2],
        ['order.paid', { id: 8, note: {}, tags: [] }],
        ['order.sent', { id: 8 }],
      ],
    )
    assert.deepEqual([heard[1]!.from, heard[1]!.seq], [{ user: '7' }, 5])
    // A node that is asked over HTTP writes the numbers again.
    assert.match(page.texts[2]!, name === 'curl' || name === 'streams' ? /"payload":2,/ : /"payload":2\.0,/)
  })

  test(`${name}: who is online, tickets and commands`, async t => {
    const id = `${user}c`
    const page = await listenTo(t, `${node.url}?user=${id}`)
    await php(
      name,
      // Presence is written behind the welcome.
      `for ($i = 0; $i < 3000 && !$publisher->user('${id}')['online']; $i++) usleep(10000);
      echo json_encode($publisher->user('${id}')['online'] ?: throw new Exception('not online'));`,
    )
    const said = await php<Record<string, never>>(
      name,
      `$all = iterator_to_array($publisher->members('all'), false);
      echo json_encode([
        'nodes' => $publisher->nodes(), 'user' => $publisher->user('${id}'), 'nobody' => $publisher->user('nobody')['online'],
        'members' => array_column($all, 'user'), 'count' => $publisher->users()['count'],
        'subscribed' => $publisher->subscribe('user:${id}', 'channel:vip')->delivered(),
        'vip' => $publisher->publish('channel:vip', Message::of('vip')->withReceipt())->delivered(),
        'unsubscribed' => $publisher->unsubscribe('user:${id}', 'channel:vip')->delivered(),
        'none' => $publisher->publish('channel:vip', Message::of('vip')->withReceipt())->delivered(),
        'ticket' => $publisher->ticket(['user' => '${id}t', 'allow' => ['channel:a.*'], 'data' => ['x' => 1]]),
        'old' => $publisher->ticket(['user' => '${id}']),
        'closed' => $publisher->revoke('user:${id}')->delivered(),
        'gone' => $publisher->close('user:${id}', 4403, 'bye')->delivered(),
      ]);`,
    )
    const {
      user: online,
      members,
      ticket,
      old,
      ...rest
    } = said as unknown as {
      user: { online: boolean; count: number; connections: { id: string }[] }
      members: string[]
      ticket: string
      old: string
    }
    assert.deepEqual([online.online, online.count], [true, 1])
    assert.deepEqual(
      online.connections.map(it => it.id),
      [page.welcome.connection],
    )
    assert.ok(members.includes(id))
    const { count, ...numbers } = rest as unknown as Record<string, number>
    assert.ok(count! >= 1)
    const [subscribed, vip, unsubscribed, none] = [1, 1, 1, 0]
    assert.deepEqual(numbers, { nodes: 1, nobody: false, subscribed, vip, unsubscribed, none, closed: 1, gone: 0 })
    assert.deepEqual(await page.closed, { code: 4401, reason: 'revoked' })
    assert.equal((await listenTo(t, `${node.url}?ticket=${ticket}`)).welcome.user, `${id}t`)
    assert.equal((await refusalOf(`${node.url}?ticket=${old}`)).status, 401)
  })

  test(`${name}: a batch, and what nodes refuse`, async t => {
    const page = await listenTo(t, `${node.url}?user=${user}b`)
    const items = await php<Record<string, unknown>[]>(
      name,
      `$items = array_map(fn ($i) => ['user:${user}b', Message::of('n', $i)], range(0, 199));
      $items[] = ['users:x', Message::of('n')];
      $items[] = ['user:${user}b', Message::of('order', ['id' => 'x'])->withReceipt()];
      $items[] = ['user:${user}b', Message::of('end')->recorded(5, 60)];
      echo json_encode(array_map(fn ($result) => $result->toArray(), $publisher->publishAll($items)));`,
    )
    await page.next('end')
    assert.deepEqual(
      page.messages.slice(1).map(({ type, payload }) => (type === 'n' ? payload : type)),
      [...Array(200).keys(), 'end'],
    )
    assert.equal(items.length, 203)
    assert.equal((items[200]!.error as { code: string }).code, 'PUSH_ERR_TOPIC')
    // Over HTTP the node says it before it publishes; over Redis the receipt does.
    const { error, rejected } = items[201] as unknown as { error?: { code: string }; rejected?: { reason: string }[] }
    assert.deepEqual([error?.code ?? rejected?.[0]?.reason], [error ? 'PUSH_ERR_SCHEMA' : 'schema'])
    assert.equal(items[202]!.seq, 1)
  })
}

test('what is away says so, and whether it may have been done', async () => {
  const nobody = await freePort()
  const [http, stream, predis, wrongKey, wrongPath, transaction, noFunction] = await php<unknown[]>(
    'Predis',
    `$quick = fn ($transport) => new Publisher($transport, retryFor: 0);
    $publish = fn ($publisher) => codeOf(fn () => $publisher->publish('user:1', Message::of('a')->recorded(1, 1)));
    ${phpRedis()} $pipe = new Redis(); $pipe->connect('127.0.0.1', ${redis.port}); $pipe->multi();
    $redis->rawCommand('FUNCTION', 'DELETE', 'push_v1');
    $noFunction = $publish(Publisher::redis($redis));
    echo json_encode([
      $publish($quick(new HttpTransport('http://127.0.0.1:${nobody}/push', 'k'))),
      $publish($quick(new HttpTransport('http://127.0.0.1:${nobody}/push', 'k', new StreamHttp()))),
      $publish(Publisher::redis(new Predis\\Client('tcp://127.0.0.1:${nobody}'))),
      $publish(Publisher::http('${node.origin}/push', 'guessed')),
      $publish(Publisher::http('${node.origin}/elsewhere', 'k')),
      $publish(Publisher::redis($pipe)),
      $noFunction,
    ]);`,
  )
  const AWAY = 'PUSH_ERR_BROKER_AWAY'
  assert.deepEqual([http, stream, predis], [AWAY, AWAY, AWAY])
  assert.deepEqual([wrongKey, wrongPath], ['PUSH_ERR_UNAUTHENTICATED', 'PUSH_ERR_INTERNAL'])
  assert.deepEqual([transaction, noFunction], ['PUSH_ERR_OPTIONS', 'PUSH_ERR_UNSUPPORTED'])
})

test('over TLS, only what breaks before the request was not sent', async t => {
  const authority = await createAuthority(t)
  await authority.certify('here', 'IP:127.0.0.1')
  const server = createServer({ cert: authority.read('here.crt'), key: authority.read('here.key') })
  const sockets: Socket[] = []
  server.on('connection', socket => sockets.push(socket as Socket))
  let requests = 0
  server.on('request', ({ url }, response) => {
    requests++
    const reset = () => sockets.forEach(socket => void socket.resetAndDestroy())
    if (url === '/half') response.writeHead(200, { 'content-length': '9' }).write('[{', reset)
    else reset()
  })
  t.after(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const said = await php<unknown[]>(
    'streams',
    `$send = fn (?string $authority, string $path) => codeOf(fn () => (new StreamHttp(10.0, $authority))
      ->send('POST', "https://127.0.0.1:${(server.address() as AddressInfo).port}/$path", [], '{}'));
    $authority = '${authority.file('ca.crt')}';
    echo json_encode([$send(null, 'push'), $send($authority, 'push'), $send($authority, 'half')]);`,
  )
  const [away, unconfirmed] = ['PUSH_ERR_BROKER_AWAY', 'PUSH_ERR_UNCONFIRMED']
  assert.deepEqual([said, requests], [[away, unconfirmed, unconfirmed], 2])
})

test('a Redis that freezes: it may have been done, and with a key it is done once', async t => {
  const frozen = await startRedis(t)
  await frozen.admin.call('FUNCTION', 'LOAD', readFileSync(path('src/broker/redis/push.lua')))
  const program = new Program(t, 'php', [
    '-r',
    `${PRELUDE} $redis = new Redis(); $redis->connect('127.0.0.1', ${frozen.port}, 1, null, 0, 0.2);
    $publish = fn ($key, $retryFor) => codeOf(fn () => (new Publisher(new RedisTransport(new PhpRedis($redis)), retryFor: $retryFor))
      ->publish('user:1', Message::of('a')->recorded(9, 60, $key)));
    posix_kill(${frozen.pid}, SIGSTOP);
    echo 'without: ', $publish(null, 2.0), "\\n", 'given up: ', $publish('k', 0.0), "\\n", "frozen\\n";
    echo 'with: ', $publish('k', 60.0) ?? 'done', "\\n";
    echo 'again: ', Publisher::redis($redis)->publish('user:1', Message::of('a')->recorded(9, 60, 'k'))->isDuplicate(), "\\n";`,
  ])
  await program.line(/^frozen$/)
  frozen.thaw()
  await program.line(/^with: done$/)
  await program.line(/^again: 1$/)
  assert.equal(program.lines[0], 'without: PUSH_ERR_UNCONFIRMED')
  assert.match(program.lines[1]!, /^given up: PUSH_ERR_(UNCONFIRMED|BROKER_AWAY)$/)
  // What was sent without a key may have been recorded; what was sent four times with a key was so once.
  assert.ok((await frozen.admin.xlen('{push:user:1}:history')) <= 2)
})

test('a signed call of a node', async () => {
  const body = JSON.stringify({ id: '1', kind: 'message', payload: { text: 'ä' } })
  const t = Math.floor(Date.now() / 1000)
  const v1 = createHmac('sha256', 'secret').update(`${t}.${body}`).digest('hex')
  const said = await php<unknown[]>(
    'curl',
    `$body = ${JSON.stringify(body).replaceAll('$', '\\$')}; $header = 't=${t},v1=${v1}';
    $call = new SignedCall(['new', 'secret']);
    echo json_encode([$call->verify($body, $header)['kind'], codeOf(fn () => $call->verify("$body ", $header)), codeOf(fn () => $call->verify($body, ''))]);`,
  )
  assert.deepEqual(said, ['message', 'PUSH_ERR_UNAUTHENTICATED', 'PUSH_ERR_UNAUTHENTICATED'])
})

for (const [index, name] of Object.keys(PUBLISHERS).entries()) {
  test(`${name}: what two nodes say of a publication is one result`, async t => {
    const other = await startInteropNode(t, redis.url)
    const user = `two${index}`
    const pages = await Promise.all([node, node, other].map(({ url }) => listenTo(t, `${url}?user=${user}`)))
    const out = pages[2]!.welcome.connection
    const [got, skipped, recorded, wrong] = await php<Record<string, unknown>[]>(
      name,
      `$to = 'user:${user}';
      $results = $publisher->publishAll([
        [$to, Message::of('notice', 1)->withReceipt()],
        [$to, Message::of('notice', 2)->except('connection:${out}')->withReceipt()],
        [$to, Message::of('notice', 3)->recorded(10, 60)->withReceipt()],
        [$to, Message::of('order', ['id' => 'x'])->withReceipt()],
      ]);
      echo json_encode(array_map(fn ($result) => $result->toArray(), $results));`,
    )
    const topic = `user:${user}`
    assert.deepEqual(got, { topic, nodes: 2, delivered: 3, skipped: 0, complete: true })
    assert.deepEqual(skipped, { topic, nodes: 2, delivered: 2, skipped: 1, complete: true, reasons: { except: 1 } })
    assert.deepEqual([recorded!.nodes, recorded!.delivered, recorded!.complete, recorded!.seq], [2, 3, true, 1])
    // Over HTTP the node that is asked refuses it before anybody gets it.
    const { error, rejected } = wrong as { error?: { code: string }; rejected?: { node: string; reason: string }[] }
    if (error) assert.equal(error.code, 'PUSH_ERR_SCHEMA')
    else {
      const nodes = [pages[0]!, pages[2]!].map(({ welcome }) => welcome.node)
      assert.deepEqual(new Set(rejected!.map(it => it.node)), new Set(nodes))
      assert.deepEqual([wrong!.nodes, wrong!.delivered, wrong!.complete], [2, 0, true])
    }
    for (const [i, page] of pages.entries()) {
      for (const expected of i === 2 ? [1, 3] : [1, 2, 3]) assert.equal((await page.next('notice')).payload, expected)
    }
  })
}

test('the tests of the package itself', async () => {
  const { code, stdout, stderr } = await run('phpunit', [], { cwd: path('php') })
  assert.deepEqual([code, stderr], [0, ''], stdout)
  assert.match(stdout, /OK \(\d+ tests/)
})
