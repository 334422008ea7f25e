import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { PushBridge } from './bridge.ts'
import type { Broker } from './broker/broker.ts'
import { Metrics } from './broker/metrics.ts'
import { Decoder } from './delivery/decoder.ts'
import { Intake } from './ingress/intake.ts'
import { Roads } from './ingress/roads.ts'
import { openBroker } from './node/broker-choice.ts'
import { Codecs } from './node/codecs.ts'
import { descriptorProblem } from './node/descriptors.ts'
import { Events } from './node/events/events.ts'
import { Hub, type HubEvents } from './node/hub.ts'
import { Dispatcher } from './node/inbound.ts'
import { expose } from './node/monitoring/exposition.ts'
import { Reporter } from './node/monitoring/reporter.ts'
import { Workers } from './node/workers.ts'
import type { Options, PushBridgeOptions } from './options/options.ts'
import { parseOptions } from './options/parse.ts'
import { errors } from './protocol/errors.ts'
import { HistoryReader } from './publish/history-page.ts'
import { HistoryRules } from './publish/history-rules.ts'
import { Publisher } from './publish/publish.ts'
import { SchemaTable } from './publish/schemas.ts'
import { Tally } from './publish/tally.ts'
import { Admission } from './routes/admission.ts'
import { countClientErrors } from './routes/client-errors.ts'
import { streamRoutes } from './routes/event-stream.ts'
import { healthRoutes } from './routes/health.ts'
import { pageRoutes } from './routes/page.ts'
import { pushRoutes } from './routes/push.ts'
import { socketRoutes } from './routes/socket.ts'
import { shareWebSocketServer } from './routes/websocket-server.ts'

declare module 'fastify' {
  interface FastifyInstance {
    push: PushBridge
  }
}

/** At most this many log lines per second about rejected envelopes, so that they cannot fill a disk. */
const REJECTED_LINES_PER_SECOND = 5

const pushBridge: FastifyPluginAsync<PushBridgeOptions> = async (app, input) => {
  const options = parseOptions(input)
  if (app.hasDecorator(options.name)) {
    throw new errors.OPTIONS(`option name: app.${options.name} already exists: give this registration another name`)
  }
  const schemas = new SchemaTable(options.schemas)
  const rules = new HistoryRules(options.history)
  const codecs = await Codecs.open(options.codecs)
  const { broker, release } = await openBroker(app, options)
  // At once: a registration that fails further down must not leave links to Redis behind.
  app.addHook('onClose', release)
  const metrics = new Metrics()
  countClientErrors(app, metrics)
  const events = openEvents(app, options, { broker, metrics })
  const reports = hubEvents(app, events)
  const decoder = new Decoder(schemas, options.limits.publication, reports.failed, codecs.readMsgpack)
  const hub = new Hub(broker, options, { decoder, rules }, metrics, reports)
  const uncounted = new Publisher(broker, schemas, rules, options.limits.publication)
  const publisher = uncounted.countedBy(new Tally(metrics, 'app'))
  const workers = await Workers.open(options, error => app.log.error({ err: error }, 'push: a worker failed'))
  if (workers) app.addHook('onClose', () => workers.close())
  const failed = (error: unknown) => app.log.error({ err: error }, 'push: a handler failed')
  const dispatcher = new Dispatcher(hub, options, uncounted.countedBy(new Tally(metrics, 'client')), {
    failed,
    taker: events,
    workers,
  })
  const histories = new HistoryReader(broker, schemas, options.limits.publication, codecs.readMsgpack)
  const admission = new Admission(hub, options, app.log)
  openReporter(app, hub, () => admission.gate.pending)
  const roads = openIngress(app, options, { broker, publisher: uncounted, rules, metrics })
  const push = new PushBridge(hub, publisher, histories, () => ({ ...admission.status(), ingress: roads.status }))
  app.decorate(options.name, push as never)
  await app.register(async scope => {
    const server = await shareWebSocketServer(scope, options, admission.gate)
    socketRoutes(scope, { hub, options, dispatcher, server, admission, codecs })
    if (options.sse) streamRoutes(scope, { hub, options, admission, sse: options.sse })
  })
  const { api, limits } = options
  if (api) {
    const counted = uncounted.countedBy(new Tally(metrics, 'http'))
    await app.register(pushRoutes, { prefix: api.path, api, push, publisher: counted, histories, limits, metrics })
    if (api.page) await app.register(pageRoutes, { prefix: api.path, api })
  }
  await openMonitoring(app, hub, { events, ingress: roads })
  const problem = descriptorProblem(limits.connections)
  if (problem) app.log.warn(`push: too few descriptors: ${problem}`)
  // In preClose, since the server then waits for its sockets, and ours would never close.
  app.addHook('preClose', () => hub.drain())
  app.addHook('onClose', async () => hub.close())
}

/** From now on this node answers when all nodes are asked. */
function openReporter(app: FastifyInstance, hub: Hub, pendingUpgrades: () => number): void {
  const { broker, registry, metrics, rounds, delivery, options } = hub
  const reporter = new Reporter({
    name: options.name,
    broker,
    registry,
    metrics,
    rounds,
    pendingUpgrades,
    recent: delivery.recent,
    limitNotes: delivery.limitNotes,
    refusals: hub.refusals,
    state: () => ({ isDraining: hub.isDraining, ...hub.waiting }),
    isRecorded: topic => delivery.isRecorded(topic),
    idleTime: connection => hub.idleTime(connection),
  })
  hub.respond = question => reporter.answer(question)
  app.addHook('onClose', async () => reporter.close())
}

/** What the options `metrics` and `health` ask for. */
async function openMonitoring(
  app: FastifyInstance,
  hub: Hub,
  ways: { events: Events | undefined; ingress: Roads },
): Promise<void> {
  const { metrics, health } = hub.options
  if (metrics) {
    const conceal = await expose(hub, metrics, ways)
    app.addHook('onClose', async () => conceal())
  }
  if (health) await app.register(healthRoutes, { hub, health })
}

/** What the option `events` asks for. Its callbacks stand in for those of the application. */
function openEvents(
  app: FastifyInstance,
  { events, ...options }: Options,
  parts: { broker: Broker; metrics: Metrics },
): Events | undefined {
  if (!events) return undefined
  const opened = new Events({ ...options, events }, { ...parts, log: app.log })
  Object.assign(options.callbacks, opened.callbacks)
  // Runs before the broker is released, and after the last socket has closed.
  app.addHook('onClose', () => opened.close())
  return opened
}

/** What the option `ingress` asks for. Connections drain afterwards, so that they get what was still taken. */
function openIngress(
  app: FastifyInstance,
  options: Options,
  parts: { broker: Broker; publisher: Publisher; rules: HistoryRules; metrics: Metrics },
): Roads {
  const { broker, rules, metrics } = parts
  const { log } = app
  const publisher = parts.publisher.countedBy(new Tally(metrics, 'ingress'))
  const maxBytes = options.limits.publication
  const roads = new Roads(options.ingress, {
    intakeOf: ({ name, topics }) => new Intake({ name, topics, publisher, rules, maxBytes, metrics, log }),
    broker,
    log,
    node: broker.node,
    closeTimeout: options.drain.timeout,
  })
  app.addHook('onReady', () => roads.open())
  app.addHook('preClose', () => roads.close())
  return roads
}

function hubEvents(app: FastifyInstance, life: Events | undefined): HubEvents {
  let second = 0
  let lines = 0
  return {
    life,
    rejected(topic, { reason, message }) {
      life?.rejected(topic, { reason, message })
      const now = Math.floor(performance.now() / 1000)
      if (now !== second) lines = 0
      second = now
      if (++lines > REJECTED_LINES_PER_SECOND) return
      app.log.warn({ topic, reason }, `push: an envelope on ${topic} could not be used: ${message}`)
    },
    failed: error => app.log.error({ err: error }, 'push: a publication could not be delivered'),
    presenceFailed: (fields, more) =>
      app.log.warn({ ...fields, more }, 'push: who is there cannot be written; it is tried again'),
  }
}

export default fp(pushBridge, { fastify: '5.x', name: 'fastify-push-bridge' })
