import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { listenTo } from '../helpers/listener.ts'
import { cleanups, type InteropNode, path, run, startInteropNode } from '../helpers/processes.ts'
import { type RedisCluster, startCluster } from '../helpers/redis-cluster.ts'

/** Where Debian has it; PREDIS names another one. */
const PREDIS = process.env.PREDIS ?? '/usr/share/php/Predis/autoload.php'

interface Setting {
  cluster: RedisCluster
  hosts: string[]
  url: string
  node: InteropNode
}

const COMMANDS = { classic: 'PUBLISH', sharded: 'SPUBLISH' }
type Way = keyof typeof COMMANDS
const WAYS = Object.keys(COMMANDS) as Way[]

const all = cleanups()
const settings = {} as Record<Way, Setting>

before(async () => {
  for (const way of WAYS) {
    const cluster = await startCluster(all)
    const hosts = cluster.masters.map(({ port }) => `127.0.0.1:${port}`)
    const url = `redis+cluster://${hosts.join()}${way === 'sharded' ? '?sharded=true' : ''}`
    settings[way] = { cluster, hosts, url, node: await startInteropNode(all, url) }
  }
})
after(() => all.end())

/** PHP code that says how a client sends a command to the master of the channel: `$send($channel, 'PUBLISH', …)`. */
const CLIENTS: Record<string, (hosts: string[]) => string> = {
  'phpredis RedisCluster': hosts => `
    $redis = new RedisCluster(null, ${JSON.stringify(hosts)});
    $send = fn ($channel, ...$command) => $redis->rawCommand($channel, ...$command);`,
  Predis: hosts => `
    require '${PREDIS}';
    $redis = new Predis\\Client(${JSON.stringify(hosts.map(host => `tcp://${host}`))}, ['cluster' => 'redis']);
    $strategy = $redis->getConnection()->getClusterStrategy();
    foreach (['PUBLISH' => 0, 'SPUBLISH' => 0, 'FCALL' => 2] as $name => $place)
      $strategy->setCommandHandler($name, fn ($command) => $command->getArgument($place));
    $send = fn ($channel, ...$command) => $redis->executeRaw($command);`,
}

async function php(client: string, way: Way, code: string): Promise<unknown> {
  const program = `${CLIENTS[client]!(settings[way].hosts)} ${code}`
  const { code: exit, stdout, stderr } = await run('php', ['-r', program])
  assert.deepEqual([exit, stderr], [0, ''], stdout)
  return JSON.parse(stdout)
}

let numbers = 0

/** A new user at each master. */
async function users({ cluster }: Setting): Promise<string[]> {
  const found = new Map<unknown, string>()
  while (found.size < cluster.masters.length) {
    const user = String(++numbers)
    const master = await cluster.masterOf(`push:user:${user}`)
    if (!found.has(master)) found.set(master, user)
  }
  return [...found.values()]
}

for (const client of Object.keys(CLIENTS)) {
  for (const way of WAYS) {
    const command = COMMANDS[way]
    test(`${client}: ${command} and FCALL reach the master of every channel, and the page`, async t => {
      const { node } = settings[way]
      for (const user of await users(settings[way])) {
        const page = await listenTo(t, `${node.url}?user=${user}`)
        const answers = await php(
          client,
          way,
          `$channel = 'push:user:${user}';
          $nodes = $send($channel, '${command}', $channel, '{"type":"a","payload":1}');
          $recorded = [];
          foreach (['k', 'l', 'k'] as $key)
            $recorded[] = $send($channel, 'FCALL', 'push_publish', 1, $channel, '{"type":"b"}', 10, 60, $key);
          echo json_encode([$nodes, $recorded]);`,
        )
        const [nodes, recorded] = answers as [number, [string, number, number, number][]]
        assert.equal(nodes, 1)
        const rest = recorded.map(it => it.slice(1))
        assert.deepEqual(rest, [
          [1, 1, 0],
          [2, 1, 0],
          [1, 1, 1],
        ])
        assert.equal(recorded[2]![0], recorded[0]![0])
        assert.equal((await page.next('a')).payload, 1)
        for (const [id, seq] of recorded.slice(0, 2)) {
          const message = await page.next('b')
          assert.deepEqual([message.id, message.seq], [id, seq])
        }
      }
    })

    test(`${client}: the package does the same, ${way}`, async t => {
      const { node } = settings[way]
      for (const user of await users(settings[way])) {
        const page = await listenTo(t, `${node.url}?user=${user}`)
        const answers = await php(
          client,
          way,
          `require '${path('php/autoload.php')}';
          $options = new FastifyPushBridge\\Transport\\RedisOptions(sharded: ${way === 'sharded'});
          $publisher = FastifyPushBridge\\Publisher::redis($redis, $options);
          $message = FastifyPushBridge\\Message::of('c', 1)->withReceipt();
          $batch = [['user:${user}', $message], ['user:nobody', $message], ['user:${user}', $message->recorded(10, 60, 'p')]];
          $results = array_map(fn ($result) => $result->toArray(), $publisher->publishAll($batch));
          $again = $publisher->publish('user:${user}', $message->recorded(10, 60, 'p'))->isDuplicate();
          $page = $publisher->history('user:${user}', ['last' => 1]);
          echo json_encode([$results, $again, $page['messages'][0]['type'], $publisher->nodes(), $publisher->ticket(['user' => '${user}'])]);`,
        )
        const [results, again, last, nodes, ticket] = answers as [
          Record<string, unknown>[],
          boolean,
          string,
          number,
          string,
        ]
        assert.deepEqual(
          results.map(({ nodes, delivered, complete }) => [nodes, delivered, complete]),
          [
            [1, 1, true],
            [0, 0, true],
            [1, 1, true],
          ],
        )
        assert.deepEqual([again, last, nodes], [true, 'c', 1])
        for (let i = 0; i < 2; i++) assert.equal((await page.next('c')).payload, 1)
        assert.equal((await listenTo(t, `${node.url}?ticket=${ticket}`)).welcome.user, user)
      }
    })
  }

  for (const way of WAYS) {
    test(`${client}: what two nodes say of a publication is one result, ${way}`, async t => {
      const { node, url } = settings[way]
      const other = await startInteropNode(t, url)
      for (const user of await users(settings[way])) {
        const pages = await Promise.all([node, other].map(({ url }) => listenTo(t, `${url}?user=${user}`)))
        const out = pages[1]!.welcome.connection
        const results = (await php(
          client,
          way,
          `require '${path('php/autoload.php')}';
          use FastifyPushBridge\\{Message, Publisher, Transport\\RedisOptions};
          $publisher = Publisher::redis($redis, new RedisOptions(sharded: ${way === 'sharded'}));
          $batch = [
            ['user:${user}', Message::of('c', 1)->withReceipt()],
            ['user:${user}', Message::of('c', 2)->except('connection:${out}')->recorded(10, 60)->withReceipt()],
          ];
          echo json_encode(array_map(fn ($result) => $result->toArray(), $publisher->publishAll($batch)));`,
        )) as Record<string, unknown>[]
        assert.deepEqual(
          results.map(({ nodes, delivered, skipped, complete }) => [nodes, delivered, skipped, complete]),
          [
            [2, 2, 0, true],
            [2, 1, 1, true],
          ],
        )
        assert.equal((await pages[0]!.next('c')).payload, 1)
        assert.equal((await pages[0]!.next('c')).payload, 2)
        assert.equal((await pages[1]!.next('c')).payload, 1)
      }
    })
  }

  test(`${client}: what push_publish refuses is said`, async () => {
    const [user] = await users(settings.classic)
    const said = await php(
      client,
      'classic',
      `$channel = 'push:user:${user}';
      $said = $send($channel, 'FCALL', 'push_publish', 1, $channel, '{"type":"welcome"}', 10, 60);
      if ($said === false) $said = $redis->getLastError();
      echo json_encode($said);`,
    )
    assert.match(String(said), /^PUSH_ERR_RESERVED_TYPE .*"welcome"/)
  })
}
