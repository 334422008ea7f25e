import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import type { Broker, HistoryPage, Incoming, NodeAnswer, Sent, Subscriber } from '../../src/broker/broker.ts'
import type { PushError } from '../../src/protocol/errors.ts'
import type { GapReason } from '../../src/protocol/messages.ts'
import { newest, type Position } from '../../src/protocol/position.ts'
import type { Question } from '../../src/protocol/question.ts'
import type { Topic } from '../../src/protocol/topic.ts'
import { Inbox, PATIENCE, until, within } from '../helpers/waiting.ts'

/** Brokers that form one cluster, and how a test looks behind them. */
export interface Cluster {
  nodes: Broker[]
  /** Lets `seconds` pass for tickets. */
  passTime(seconds: number): Promise<void>
  /** Notes of rejected envelopes, newest first; resolves when there are `count`. */
  notes(count: number): Promise<{ topic: string; reason: string; size: number }[]>
  /** Topics for each link of a broker, where it has several: on each, commands are carried out in order. */
  barriers?(name: string): Topic[]
  /** Topics that the brokers hold where publications come from; undefined where there is no such place. */
  held?(): Promise<string[]>
}

/** Resolves when everything that the subscriber's broker was asked before has been carried out. */
async function pass({ barriers }: Cluster, subscriber: FakeSubscriber, name: string): Promise<void> {
  const topics: Topic[] = barriers?.(name) ?? [`channel:${name}`]
  await Promise.all(topics.map(topic => subscriber.join(topic)))
}

export type MakeNodes = (t: TestContext, options: { publishTimeout: number }) => Promise<Cluster>

export type Event = { topic: Topic; text: string } | { lost: GapReason } | { dropped: Topic } | { misdirected: Topic }

/** The side of a node that a broker talks to: records what it is handed, and answers receipts unless it is mute. */
export class FakeSubscriber implements Subscriber {
  readonly held = new Set<Topic>()
  readonly bytes: Uint8Array[] = []
  isMute = false
  /** How often everything was received again. */
  restorations = 0
  answer: Omit<NodeAnswer, 'node'> = { delivered: 1, skipped: 0 }
  readonly questions: Question[] = []
  readonly refusals: string[] = []
  readonly #broker: Broker
  readonly #events = new Inbox<Event>('a message of the broker')

  constructor(broker: Broker) {
    this.#broker = broker
    broker.attach(this)
  }

  receive(incoming: Incoming): void {
    const text = incoming.envelope.view().toString()
    if (this.held.has(incoming.topic)) {
      this.bytes.push(incoming.envelope.view())
      this.#events.put({ topic: incoming.topic, text })
    }
    const token = /"receipt":"([^"]+)"/.exec(text)?.[1]
    if (!token || this.isMute) return
    const nothing = { delivered: 0, skipped: 0 }
    this.#broker.answer(incoming, token, this.held.has(incoming.topic) ? this.answer : nothing)
  }

  dropped({ topic }: Incoming): void {
    this.#events.put({ dropped: topic })
  }

  misdirected({ topic }: Incoming): void {
    this.#events.put({ misdirected: topic })
  }

  lost(reason: GapReason): void {
    this.#events.put({ lost: reason })
  }

  filled(): void {}

  asked(question: Question): object {
    this.questions.push(question)
    return { asked: question }
  }

  misasked(reason: string): void {
    this.refusals.push(reason)
  }

  restored(topics?: readonly Topic[]): void {
    if (!topics) this.restorations++
  }

  isRecorded(topic: Topic): boolean {
    return topic.startsWith('channel:recorded')
  }

  holds(topic: Topic): boolean {
    return this.held.has(topic)
  }

  topics(): Iterable<Topic> {
    return this.held
  }

  async join(topic: Topic): Promise<Position | undefined> {
    this.held.add(topic)
    return (await this.#broker.subscribe([topic])).get(topic)
  }

  leave(topic: Topic): void {
    this.held.delete(topic)
    this.#broker.unsubscribe(topic)
  }

  next(): Promise<Event> {
    return this.#events.take()
  }

  /** The next message; what a first connection to the broker tells is left out. */
  async text(): Promise<string> {
    const event = await this.next()
    return 'text' in event ? event.text : this.text()
  }

  /** Forgets what happened so far. */
  clear(): void {
    this.#events.clear()
  }
}

export const envelope = (n: number | string, receipt?: string) => JSON.stringify({ type: 'a', payload: n, receipt })

export async function publishOne(broker: Broker, topic: Topic, text: string, receipt?: string): Promise<Sent> {
  const [sent] = await broker.publish([{ topic, envelope: text, receipt }])
  assert.ok(sent && !(sent instanceof Error), `published: ${sent}`)
  return sent
}

export function codeOf(result: Sent | PushError | undefined): string {
  return result instanceof Error ? result.code : `sent to ${result?.nodes}`
}

/** What every broker has to do. */
export function brokerSuite(name: string, makeNodes: MakeNodes): void {
  const suiteTest = (
    title: string,
    body: (t: TestContext, cluster: Cluster, subscribers: FakeSubscriber[]) => Promise<void>,
    publishTimeout = PATIENCE,
  ) =>
    test(`${name}: ${title}`, { timeout: 120_000 }, async t => {
      const cluster = await makeNodes(t, { publishTimeout })
      const subscribers = cluster.nodes.map(node => new FakeSubscriber(node))
      await Promise.all(subscribers.map(subscriber => subscriber.join('all')))
      for (const subscriber of subscribers) subscriber.clear()
      await body(t, cluster, subscribers)
    })

  suiteTest(
    'a publication reaches the nodes that hold the topic, and no others',
    async (_t, { nodes }, subscribers) => {
      const [first] = subscribers
      await first!.join('channel:x')
      const sent = await publishOne(nodes.at(-1)!, 'channel:x', envelope(1))
      assert.deepEqual(sent, { nodes: 1 })
      // Before the next one is published: in a Cluster it may come over another link.
      assert.equal(await first!.text(), envelope(1))
      await publishOne(nodes[0]!, 'all', envelope('marker'))
      for (const subscriber of subscribers) assert.equal(await subscriber.text(), envelope('marker'))
    },
  )

  suiteTest('nodes are counted: all, one, nobody', async (_t, { nodes }, [first]) => {
    await first!.join('user:1')
    const sent = await nodes[0]!.publish([
      { topic: 'all', envelope: envelope(1) },
      { topic: 'user:1', envelope: envelope(2) },
      { topic: 'user:2', envelope: envelope(3) },
    ])
    assert.deepEqual(sent, [{ nodes: nodes.length }, { nodes: 1 }, { nodes: 0 }])
    assert.equal(await nodes[0]!.nodes(), nodes.length)
    assert.deepEqual(await nodes[0]!.publish([]), [])
  })

  suiteTest('one publisher’s order is kept, across calls and inside a batch', async (_t, { nodes }, subscribers) => {
    const calls = Array.from({ length: 100 }, (_, i) =>
      nodes[0]!.publish([0, 1, 2].map(j => ({ topic: 'all' as const, envelope: envelope(i * 3 + j) }))),
    )
    await Promise.all(calls)
    for (const subscriber of subscribers) {
      for (let n = 0; n < 300; n++) assert.equal(await subscriber.text(), envelope(n))
    }
  })

  suiteTest('the bytes of an envelope are handed on as they are', async (_t, { nodes }, subscribers) => {
    const texts = [
      '',
      ' ',
      '{"a":"\\u0000\u0000\r\n*?[]"}',
      'é😀\u2028\ufeff',
      '12345678901234567890',
      'x'.repeat(300_000),
    ]
    for (const text of texts) await publishOne(nodes[0]!, 'all', text)
    for (const subscriber of subscribers) {
      for (const text of texts) assert.equal(await subscriber.text(), text)
      assert.ok(subscriber.bytes.every((bytes, i) => Buffer.from(texts[i]!).equals(bytes)))
    }
  })

  suiteTest('topics are literal: no patterns, no surprise names', async (_t, { nodes }, [first]) => {
    const odd: Topic[] = ['channel:*', 'channel:a?', 'channel:[a]', 'channel:__proto__', 'channel:é', 'user:a:b']
    await Promise.all(odd.map(topic => first!.join(topic)))
    for (const topic of ['channel:x', 'channel:ab', 'channel:a', 'channel:e\u0301'] as Topic[]) {
      assert.deepEqual(await publishOne(nodes[0]!, topic, envelope(topic)), { nodes: 0 }, topic)
    }
    for (const topic of odd) {
      assert.deepEqual(await publishOne(nodes[0]!, topic, envelope(topic)), { nodes: 1 }, topic)
      assert.equal(await first!.text(), envelope(topic))
    }
  })

  suiteTest('a receipt brings the answer of every node', async (_t, { nodes }, subscribers) => {
    subscribers.forEach((subscriber, i) => {
      subscriber.answer = { delivered: i + 1, skipped: 1, reasons: { except: 1 } }
    })
    const { answers = [], ...sent } = await publishOne(nodes[0]!, 'all', envelope(1, 'tok1'), 'tok1')
    assert.deepEqual(sent, { nodes: nodes.length, complete: true })
    assert.deepEqual(
      answers.toSorted((a, b) => a.delivered - b.delivered),
      nodes.map(({ node }, i) => ({ node, delivered: i + 1, skipped: 1, reasons: { except: 1 } })),
    )
    const nobody = await publishOne(nodes[0]!, 'user:9', envelope(1, 'tok2'), 'tok2')
    assert.deepEqual(nobody, { nodes: 0, answers: [], complete: true })
  })

  suiteTest(
    'a mute node leaves a receipt incomplete at the deadline, and holds no other up',
    async (_t, { nodes }, subscribers) => {
      await subscribers[0]!.join('channel:x')
      subscribers.at(-1)!.isMute = true
      const start = performance.now()
      const order: string[] = []
      const [sent] = await Promise.all([
        publishOne(nodes[0]!, 'all', envelope(1, 'tok'), 'tok').finally(() => order.push('receipt')),
        publishOne(nodes[0]!, 'channel:x', envelope(2)).finally(() => order.push('plain')),
      ])
      assert.equal(sent.complete, false)
      assert.equal(sent.answers?.length, nodes.length - 1)
      const elapsed = performance.now() - start
      assert.ok(elapsed > 1900, `${elapsed} ms for a publish timeout of 2000`)
      assert.deepEqual(order, ['plain', 'receipt'])
    },
    2000,
  )

  suiteTest('what was left is no longer received', async (_t, cluster, [first]) => {
    const { nodes } = cluster
    await first!.join('channel:x')
    first!.leave('channel:x')
    await pass(cluster, first!, 'z')
    await first!.join('channel:y')
    await pass(cluster, first!, 'barrier')
    assert.deepEqual(await publishOne(nodes[0]!, 'channel:x', envelope(1)), { nodes: 0 })
    await publishOne(nodes[0]!, 'channel:y', envelope(2))
    assert.equal(await first!.text(), envelope(2))
  })

  suiteTest('subscribers of one broker share it: the topic stays while one holds it', async (_t, cluster, [first]) => {
    const { nodes } = cluster
    const second = new FakeSubscriber(nodes[0]!)
    await Promise.all([first!.join('channel:x'), second.join('channel:x')])
    assert.deepEqual(await publishOne(nodes[0]!, 'channel:x', envelope(1)), { nodes: 1 })
    assert.deepEqual(await Promise.all([first!.text(), second.text()]), [envelope(1), envelope(1)])
    first!.leave('channel:x')
    await pass(cluster, first!, 'y')
    assert.deepEqual(await publishOne(nodes[0]!, 'channel:x', envelope(2)), { nodes: 1 })
    assert.equal(await second.text(), envelope(2))
    nodes[0]!.detach(second)
    await pass(cluster, first!, 'z')
    assert.deepEqual(await publishOne(nodes[0]!, 'channel:x', envelope(3)), { nodes: 0 })
  })

  suiteTest('answers of subscribers that share a broker are one answer of the node', async (_t, { nodes }, [first]) => {
    const second = new FakeSubscriber(nodes[0]!)
    await Promise.all([first!.join('channel:x'), second.join('channel:x')])
    first!.answer = { delivered: 2, skipped: 1, reasons: { except: 1 } }
    second.answer = {
      delivered: 3,
      skipped: 2,
      reasons: { except: 1, closing: 1 },
      rejected: { reason: 'schema', message: 'no' },
    }
    const sent = await publishOne(nodes[0]!, 'channel:x', envelope(1, 'tok'), 'tok')
    const rejected = { reason: 'schema', message: 'no' }
    const whole = { node: nodes[0]!.node, delivered: 5, skipped: 3, reasons: { except: 2, closing: 1 }, rejected }
    assert.deepEqual(sent, { nodes: 1, answers: [whole], complete: true })
  })

  suiteTest(
    'a topic that is left and joined at random is received exactly while it is wanted',
    async (_t, cluster, subscribers) => {
      const topics: Topic[] = ['channel:a', 'channel:b', 'user:1']
      let barriers = 0
      const step = fc.record({ who: fc.nat(subscribers.length - 1), topic: fc.nat(2), turn: fc.nat(3) })
      const property = fc.asyncProperty(fc.array(step, { maxLength: 40 }), async steps => {
        const joining: Promise<unknown>[] = []
        for (const { who, topic: index, turn } of steps) {
          const topic = topics[index]!
          const subscriber = subscribers[who]!
          if (subscriber.holds(topic)) subscriber.leave(topic)
          else joining.push(subscriber.join(topic))
          // Toggles of one turn of the event loop, of neighbouring turns, and after an answer of the broker.
          if (turn === 1) await new Promise(setImmediate)
          if (turn === 2) await joining.at(-1)
        }
        await Promise.all(joining)
        // Commands of one node are carried out in order: with this one's answer those before it are done. It is another
        // topic each time, since one that was left a moment ago may be held still.
        barriers++
        await Promise.all(subscribers.map(subscriber => pass(cluster, subscriber, `barrier${barriers}`)))
        for (const topic of topics) {
          const holders = subscribers.filter(subscriber => subscriber.holds(topic))
          assert.deepEqual(await publishOne(cluster.nodes[0]!, topic, envelope(topic)), { nodes: holders.length })
          for (const holder of holders) assert.equal(await holder.text(), envelope(topic))
        }
        const wanted = new Set(subscribers.flatMap(subscriber => [...subscriber.held]))
        if (cluster.held) assert.deepEqual(await cluster.held(), [...wanted].toSorted())
        for (const subscriber of subscribers) {
          for (const topic of subscriber.held) if (topic !== 'all') subscriber.leave(topic)
        }
      })
      await fc.assert(property, { numRuns: 100 })
    },
  )

  suiteTest('a ticket is spent by asking, on any node', async (_t, { nodes }) => {
    await nodes[0]!.putTicket('t1', '{"user":"42"}', 30)
    assert.equal(await nodes.at(-1)!.takeTicket('t1'), '{"user":"42"}')
    assert.equal(await nodes[0]!.takeTicket('t1'), null)
    assert.equal(await nodes[0]!.takeTicket('__proto__'), null)
  })

  suiteTest('a ticket expires, and is not replaced while it stands', async (_t, { nodes, passTime }) => {
    await nodes[0]!.putTicket('t1', 'first', 30)
    await passTime(15)
    assert.equal(await nodes.at(-1)!.takeTicket('t1'), 'first')
    await nodes[0]!.putTicket('t2', 'first', 30)
    await passTime(31)
    assert.equal(await nodes[0]!.takeTicket('t2'), null)
    await nodes[0]!.putTicket('t3', 'first', 30)
    await nodes[0]!.putTicket('t3', 'second', 30).catch(() => {})
    assert.equal(await nodes[0]!.takeTicket('t3'), 'first')
  })

  suiteTest(
    'when users were revoked is known on every node, for as long as it is to be',
    async (_t, { nodes, passTime }) => {
      const last = nodes.at(-1)!
      await nodes[0]!.putRevocation('42', 1000, 30)
      await nodes[0]!.putRevocation('ü', 3000, 60)
      const timesOf = (node: Broker, ...users: string[]) => Promise.all(node.revokedAt(users))
      assert.deepEqual(await timesOf(last, '41', '42', '__proto__', 'ü', '42'), [
        undefined,
        1000,
        undefined,
        3000,
        1000,
      ])
      assert.deepEqual(await timesOf(last), [])
      await last.putRevocation('42', 2000, 30)
      assert.deepEqual(await timesOf(nodes[0]!, '42'), [2000])
      await passTime(31)
      assert.deepEqual(await timesOf(nodes[0]!, '42', 'ü'), [undefined, 3000])
    },
  )
  suiteTest('of the tickets of a user the newest are good', async (_t, { nodes }) => {
    const bound = { user: '42', most: 3 }
    await nodes[0]!.putTicket('other', 'other', 30, { user: '43', most: 3 })
    await nodes[0]!.putTicket('nobody', 'nobody', 30)
    const ended: number[] = []
    for (let i = 0; i < 5; i++) ended.push(await nodes[i % nodes.length]!.putTicket(`t${i}`, `${i}`, 30, bound))
    assert.deepEqual(ended, [0, 0, 0, 1, 1])
    const taken: (string | null)[] = []
    for (const token of ['t0', 't1', 't2', 't3', 't4', 'other', 'nobody']) {
      taken.push(await nodes.at(-1)!.takeTicket(token))
    }
    assert.deepEqual(taken, [null, null, '2', '3', '4', 'other', 'nobody'])
    // What is spent takes nothing away from what is not.
    for (let i = 5; i < 8; i++) assert.equal(await nodes[0]!.putTicket(`t${i}`, `${i}`, 30, bound), 0)
    for (let i = 5; i < 8; i++) assert.equal(await nodes[0]!.takeTicket(`t${i}`), `${i}`)
  })

  suiteTest('envelopes that could not be used are noted', async (_t, { nodes, notes }) => {
    const note = { topic: 'user:1' as Topic, reason: 'json', message: 'broken' }
    nodes[0]!.note({ ...note, envelope: Buffer.from('{') })
    nodes[0]!.note({ ...note, topic: 'all', envelope: Buffer.alloc(5000, 0xff) })
    const found = await notes(2)
    assert.deepEqual(
      found.map(({ topic, reason, size }) => ({ topic, reason, size })),
      [
        { topic: 'all', reason: 'json', size: 5000 },
        { topic: 'user:1', reason: 'json', size: 1 },
      ],
    )
  })

  suiteTest('a question reaches every node, and one that answers is not missed', async (_t, { nodes }, subscribers) => {
    const question: Question = { ask: 'explain', topic: 'channel:a' }
    let asked = await nodes[0]!.inquiry.ask(question)
    // A slow machine may need more than the second that nodes have.
    await until(async () => {
      if (!asked.complete) asked = await nodes[0]!.inquiry.ask(question)
      return asked.complete
    }, 'every node answers in time')
    const names = asked.answers.map(({ node }) => node).toSorted()
    assert.deepEqual([names, asked.expected, asked.problem], [nodes.map(({ node }) => node), nodes.length, undefined])
    for (const { answer } of asked.answers) assert.deepEqual(answer, { asked: question })
    for (const { questions, refusals } of subscribers) assert.deepEqual([questions[0], refusals], [question, []])
  })

  suiteTest(
    'whoever asks at the same time shares the answers of the other nodes',
    async (_t, { nodes }, subscribers) => {
      const ask = () => nodes[0]!.inquiry.ask({ ask: 'nodes' })
      const all = await Promise.all(Array.from({ length: 50 }, ask))
      for (const { answers } of all) assert.ok(answers.some(({ node }) => node === nodes[0]!.node))
      for (const { questions } of subscribers.slice(1))
        assert.ok(questions.length <= 1, `asked ${questions.length} times`)
    },
  )

  suiteTest('what is asked about a topic: nothing, its head and its size, and notes', async (_t, { nodes, notes }) => {
    const [first] = nodes
    const { inquiry } = nodes.at(-1)!
    assert.deepEqual([await inquiry.recorded('channel:none'), await inquiry.rejected('channel:none')], [undefined, []])
    for (let n = 1; n <= 5; n++) await record(first!, n)
    const head = (await first!.history(R, newest(1), ALL)).head
    assert.deepEqual(await inquiry.recorded(R), { head, size: 5 })
    const note = { reason: 'json', message: 'broken', envelope: Buffer.from('{"secret') }
    first!.note({ ...note, topic: 'channel:none' })
    first!.note({ ...note, topic: 'all' })
    await notes(2)
    const [noted, ...more] = await inquiry.rejected('channel:none')
    assert.deepEqual({ ...noted, at: 0 }, { at: 0, node: first!.node, reason: 'json', message: 'broken' })
    assert.deepEqual([more, Math.abs(noted!.at - Date.now()) < 600_000], [[], true])
    assert.deepEqual(first!.troubleWith('channel:none').refused ?? false, false)
  })

  // ── recorded ─────────────────────────────────────────────────────────────────────────────────────────────────────

  const R: Topic = 'channel:recorded'
  const history = { size: 5, ttl: 60 }
  const ALL = { count: 100, bytes: 1e6 }

  async function record(broker: Broker, n: number | string, idempotencyKey?: string): Promise<Required<Sent>> {
    const [sent] = await broker.publish([{ topic: R, envelope: envelope(n), history, idempotencyKey }])
    assert.ok(sent && !(sent instanceof Error), `recorded: ${sent}`)
    return sent as Required<Sent>
  }

  suiteTest('what is recorded is numbered, wherever it is published', async (_t, { nodes }, subscribers) => {
    const starts = await Promise.all(subscribers.map(subscriber => subscriber.join(R)))
    assert.deepEqual(
      starts.map(start => start?.seq),
      starts.map(() => 0),
    )
    for (let n = 1; n <= 6; n++) {
      const { position, nodes: reached } = await record(nodes[n % nodes.length]!, n)
      assert.deepEqual([position.seq, reached], [n, nodes.length])
      for (const subscriber of subscribers) assert.equal(await subscriber.text(), envelope(n))
      for (const node of nodes) assert.deepEqual((await node.subscribe([R])).get(R), position)
    }
    const { position } = await record(nodes[0]!, 7)
    for (const subscriber of subscribers) await subscriber.text()
    assert.deepEqual((await nodes.at(-1)!.subscribe([R])).get(R), position)
  })

  suiteTest('what comes after a place is read on any node, in pages', async (_t, { nodes }, [first]) => {
    const start = await first!.join(R)
    const positions: Position[] = []
    for (let n = 1; n <= 5; n++) positions.push((await record(nodes[0]!, n)).position)
    const node = nodes.at(-1)!
    const whole = await node.history(R, start!.id, ALL)
    assert.deepEqual([whole.gap, whole.isComplete, whole.head], [undefined, true, positions[4]])
    assert.deepEqual(
      whole.entries.map(({ position, envelope: bytes }) => [position, Buffer.from(bytes).toString()]),
      positions.map((position, i) => [position, envelope(i + 1)]),
    )
    const page = await node.history(R, positions[0]!.id, { count: 2, bytes: 1e6 })
    assert.deepEqual([page.entries.map(({ position }) => position.seq), page.isComplete], [[2, 3], false])
    const rest = await node.history(R, page.entries[1]!.position.id, { count: 2, bytes: 1 })
    assert.deepEqual([rest.entries.map(({ position }) => position.seq), rest.isComplete], [[4], false])
    assert.deepEqual(await node.history(R, positions[4]!.id, ALL), {
      head: positions[4],
      entries: [],
      isComplete: true,
    })
    await record(nodes[0]!, 6)
    assert.equal((await node.history(R, start!.id, ALL)).gap, 'history_trimmed')
    assert.equal((await node.history(R, 'junk', ALL)).gap, 'unknown_id')
    assert.equal((await node.history('user:none', positions[0]!.id, ALL)).gap, 'history_expired')
  })

  suiteTest('the newest of a topic are read on any node, in pages that lead to the head', async (_t, { nodes }) => {
    const node = nodes.at(-1)!
    const none = await node.history(R, newest(3), ALL)
    assert.deepEqual([none.gap, none.head.seq, none.entries, none.isComplete], [undefined, 0, [], true])
    const positions: Position[] = []
    for (let n = 1; n <= 7; n++) positions.push((await record(nodes[0]!, n)).position)
    const numbersOf = (page: HistoryPage) => page.entries.map(({ position }) => position.seq)
    for (const [count, seqs] of [
      [1, [7]],
      [3, [5, 6, 7]],
      [5, [3, 4, 5, 6, 7]],
      [100, [3, 4, 5, 6, 7]],
    ] as const) {
      const page = await node.history(R, newest(count), ALL)
      assert.deepEqual([page.gap, page.head, page.isComplete], [undefined, positions[6], true])
      assert.deepEqual(numbersOf(page), seqs)
      for (const { position, envelope: bytes } of page.entries) {
        assert.deepEqual([position, bytes.toString()], [positions[position.seq - 1], envelope(position.seq)])
      }
    }
    const first = await node.history(R, newest(4), { count: 3, bytes: 1e6 })
    assert.deepEqual([numbersOf(first), first.isComplete], [[4, 5, 6], false])
    const small = await node.history(R, newest(4), { count: 3, bytes: 1 })
    assert.deepEqual([numbersOf(small), small.isComplete], [[4], false])
    const rest = await node.history(R, first.entries.at(-1)!.position.id, ALL)
    assert.deepEqual([rest.gap, numbersOf(rest), rest.isComplete], [undefined, [7], true])
  })

  suiteTest('who published is recorded as it was written', async (_t, { nodes }, [first]) => {
    await first!.join(R)
    for (const user of [null, '42', 'é:😀']) {
      const text = JSON.stringify({ type: 'a', payload: 1, from: { user } })
      const [sent] = await nodes[0]!.publish([{ topic: R, envelope: text, history }])
      assert.ok(sent && !(sent instanceof Error), `recorded: ${sent}`)
      assert.equal(await first!.text(), text)
      const page = await nodes.at(-1)!.history(R, newest(1), ALL)
      assert.equal(page.entries[0]?.envelope.toString(), text)
    }
  })

  suiteTest('a repeat under the same key reaches nobody', async (_t, { nodes }, subscribers) => {
    await Promise.all(subscribers.map(subscriber => subscriber.join(R)))
    const first = await record(nodes[0]!, 1, 'k')
    const again = await record(nodes.at(-1)!, 2, 'k')
    assert.deepEqual([again.position, again.duplicate, first.duplicate], [first.position, true, undefined])
    await record(nodes[0]!, 3, 'other')
    for (const subscriber of subscribers) {
      assert.deepEqual([await subscriber.text(), await subscriber.text()], [envelope(1), envelope(3)])
    }
  })

  suiteTest('recorded or not, one publisher’s order is kept', async (_t, { nodes }, subscribers) => {
    await Promise.all(subscribers.map(subscriber => subscriber.join(R)))
    const items = Array.from({ length: 60 }, (_, n) => ({
      topic: R,
      envelope: envelope(n),
      ...(n % 3 > 0 && { history }),
      ...(n % 3 === 2 && { idempotencyKey: `k${n}` }),
    }))
    const sent = await nodes[0]!.publish(items)
    assert.deepEqual(
      sent.map(result => 'position' in result),
      items.map((_, n) => n % 3 > 0),
    )
    for (const subscriber of subscribers) {
      for (let n = 0; n < 60; n++) assert.equal(await subscriber.text(), envelope(n))
    }
  })

  suiteTest(
    'close settles everything, and nothing hangs afterwards',
    async (_t, { nodes }, subscribers) => {
      const [node] = nodes
      for (const subscriber of subscribers) subscriber.isMute = true
      const waiting = node!.publish([{ topic: 'all', envelope: envelope(1, 'tok'), receipt: 'tok' }])
      const subscribing = subscribers[0]!.join('channel:late')
      await subscribers[0]!.text()
      const ended = Promise.all([waiting, subscribing, node!.close()])
      const [[sent]] = await within(ended, 'the end of what would wait for 60 s')
      assert.ok(sent instanceof Error || sent?.complete === false, JSON.stringify(sent))
      assert.equal(node!.connected, false)
      const after = await node!.publish([
        { topic: 'all', envelope: '1' },
        { topic: 'user:1', envelope: '2', receipt: 't' },
      ])
      assert.deepEqual(after.map(codeOf), ['PUSH_ERR_CLOSED', 'PUSH_ERR_CLOSED'])
      await subscribers[0]!.join('channel:later')
      node!.unsubscribe('channel:later')
      node!.note({ topic: 'all', reason: 'json', message: '', envelope: Buffer.from('x') })
      node!.detach(subscribers[0]!)
      await node!.close()
    },
    60_000,
  )
}
