import { setTimeout as sleep } from 'node:timers/promises'
import type { Scene } from './faults.ts'
import { cutFor, holdFor } from './link-faults.ts'
import type { FaultProxy } from './proxy.ts'
import type { QueueFaultKind } from './schedule.ts'

/** What happens to RabbitMQ and Kafka, and on the way to them. Redis and the clients have nothing to do with it. */
export const QUEUE_FAULTS: Record<QueueFaultKind, (scene: Scene) => Promise<void>> = {
  'rabbitmq-kill': scene =>
    withRabbitmq(scene, async server => {
      await server.kill()
      await sleep(scene.duration / 3)
      await server.start()
    }),
  'rabbitmq-stop': scene =>
    withRabbitmq(scene, async server => {
      server.freeze()
      await sleep(scene.duration)
      server.thaw()
    }),
  'rabbitmq-cut': scene => withLinks(scene, toRabbitmq(scene), link => cutFor(link, scene.duration)),
  'rabbitmq-hole': scene => withLinks(scene, toRabbitmq(scene), link => holdFor(link, scene.duration)),
  // The mock has everything in memory: it cannot be killed.
  'kafka-stop': async ({ world, duration, begun }) => {
    const { kafka } = world.queues
    if (!kafka) return
    begun()
    kafka.freeze()
    await sleep(duration)
    kafka.thaw()
  },
  'kafka-cut': scene => withLinks(scene, toKafka(scene), link => cutFor(link, scene.duration)),
  // Half of them last longer than a session.
  'kafka-hole': scene => withLinks(scene, toKafka(scene), link => holdFor(link, scene.duration * 2)),
}

type Server = NonNullable<Scene['world']['queues']['rabbitmq']>

/** One fault has it at a time. */
async function withRabbitmq({ world, begun }: Scene, act: (server: Server) => Promise<void>): Promise<void> {
  const { rabbitmq, isTaken } = world.queues
  if (!rabbitmq || isTaken) return
  world.queues.isTaken = true
  begun()
  try {
    await act(rabbitmq)
  } finally {
    world.queues.isTaken = false
  }
}

interface Way {
  link: FaultProxy
  details: object
}

/** The way of one program. */
function toRabbitmq({ world, random }: Scene): Way[] {
  const program = random.index(world.queues.links.length)
  const { rabbitmq: link } = world.queues.links[program]!
  return link ? [{ link, details: { program } }] : []
}

/** All ways of one program, or those of all programs to one broker. */
function toKafka({ world, random }: Scene): Way[] {
  const { links } = world.queues
  const [program, isOfProgram] = [random.index(links.length), random.next() < 0.5]
  if (isOfProgram) return links[program]!.kafka.map((link, broker) => ({ link, details: { program, broker } }))
  const broker = random.index(links[program]!.kafka.length)
  return links.flatMap(({ kafka }, i) =>
    kafka[broker] ? [{ link: kafka[broker], details: { program: i, broker } }] : [],
  )
}

async function withLinks(
  { begun }: Scene,
  ways: readonly Way[],
  act: (link: FaultProxy) => Promise<void>,
): Promise<void> {
  if (ways.length === 0) return
  begun({ ways: ways.map(({ details }) => details) })
  await Promise.all(ways.map(({ link }) => act(link)))
}
