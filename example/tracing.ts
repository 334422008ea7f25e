/**
 * A push as part of the trace of the request that caused it: `REDIS_URL=redis://… npx tsx example/tracing.ts` prints a span
 * for each publication whose envelope carries `{"ext":{"traceparent":"00-…"}}`, from its arrival until it was written.
 * Take `tracePushes` into your own application, and the tracer of your own OpenTelemetry SDK.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { pathToFileURL } from 'node:url'
import { propagation, ROOT_CONTEXT, type Span, SpanKind, SpanStatusCode, type Tracer, trace } from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { BasicTracerProvider, ConsoleSpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import Fastify from 'fastify'
import pushBridge from '../src/index.ts'

interface Deliver {
  topic: string
  type?: string
  bytes: number
  connections: number
  rejected?: string
  ext?: { traceparent?: unknown }
}

interface Write {
  connection: string
  topics: readonly string[]
}

/** A push that not every connection has been written to. */
interface OpenPush {
  topic: string
  span: Span
  timer: NodeJS.Timeout | undefined
  connections: number
  written: Set<string>
}

/** A connection that closes in between is never written to. */
const PATIENCE = 10_000
/** More pushes at a time than this are not traced, so that a burst cannot fill the memory. */
const MOST = 1000

/** Makes a span of every push that belongs to a trace. Returns what ends that. */
export function tracePushes(tracer: Tracer): () => void {
  const open = new Set<OpenPush>()
  const end = (push: OpenPush) => {
    if (!open.delete(push)) return
    clearTimeout(push.timer)
    push.span.setAttribute('push.written', push.written.size)
    push.span.end()
  }

  const onDeliver = (message: unknown) => {
    const { topic, type, bytes, connections, rejected, ext } = message as Deliver
    if (typeof ext?.traceparent !== 'string' || open.size >= MOST) return
    const attributes = {
      'messaging.system': 'fastify-push-bridge',
      'messaging.destination.name': topic,
      'messaging.message.body.size': bytes,
      'push.connections': connections,
    }
    const parent = propagation.extract(ROOT_CONTEXT, ext)
    const span = tracer.startSpan(`push ${type}`, { kind: SpanKind.CONSUMER, attributes }, parent)
    if (rejected) span.setStatus({ code: SpanStatusCode.ERROR, message: rejected })
    const push: OpenPush = { topic, span, timer: undefined, connections, written: new Set() }
    open.add(push)
    if (connections === 0) end(push)
    else push.timer = setTimeout(end, PATIENCE, push).unref()
  }

  // A write has all that was delivered to this connection before.
  const onWrite = (message: unknown) => {
    const { connection, topics } = message as Write
    for (const push of open) {
      if (!topics.includes(push.topic)) continue
      push.written.add(connection)
      if (push.written.size >= push.connections) end(push)
    }
  }

  subscribe('fastify-push-bridge:deliver', onDeliver)
  subscribe('fastify-push-bridge:write', onWrite)
  return () => {
    unsubscribe('fastify-push-bridge:deliver', onDeliver)
    unsubscribe('fastify-push-bridge:write', onWrite)
    for (const push of open) end(push)
  }
}

async function main(): Promise<void> {
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(new ConsoleSpanExporter())] })
  trace.setGlobalTracerProvider(provider)
  propagation.setGlobalPropagator(new W3CTraceContextPropagator())
  const stop = tracePushes(trace.getTracer('push'))

  const app = Fastify()
  await app.register(pushBridge, { path: '/ws', redis: process.env.REDIS_URL || false })
  app.addHook('onClose', async () => {
    stop()
    await provider.shutdown()
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => app.close())
  const origin = await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' })
  process.stdout.write(`connect to ${origin.replace('http', 'ws')}/ws\n`)
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) await main()
