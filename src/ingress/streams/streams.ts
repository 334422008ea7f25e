import { RareLine } from '../../broker/rare-line.ts'
import { errors } from '../../protocol/errors.ts'
import type { Ingress, IngressParts, OpenIngress } from '../ingress.ts'
import { parseStreamsIngress, type StreamsIngressInput, type StreamsIngressOptions } from './options.ts'
import { StreamRoad } from './road.ts'

export type { StreamsIngressInput, StreamsIngressOptions }

/**
 * Publications come in from a stream of the Redis that the nodes share: `XADD push:ingress * body '{"to":…,"type":…}'`.
 * Each of them at least once, and on recorded topics clients see it once. Throws PUSH_ERR_OPTIONS.
 */
export function streamsIngress(input: StreamsIngressInput): Ingress {
  const options = parseStreamsIngress(input)
  const { name, topics } = options
  return { name, topics, open: parts => open(options, parts) }
}

function open(options: StreamsIngressOptions, parts: IngressParts): OpenIngress {
  const { broker, intake, log } = parts
  const { name, stream, group } = options
  if (!broker.openStreamQueue) {
    throw new errors.OPTIONS('option ingress has a road over Redis Streams, but there is no option redis: give both')
  }
  const lost = new RareLine((fields, more) =>
    log.warn(
      { ingress: name, stream, ...fields, more },
      'push: messages of an ingress were removed before they were done',
    ),
  )
  const queue = broker.openStreamQueue({
    ...options,
    lost(ids) {
      intake.countLost(ids.length)
      lost.tell({ id: ids[0] }, ids.length)
    },
    created: isFirst => {
      const about = { ingress: name, stream, group }
      if (isFirst) log.info(about, 'push: an ingress has made its consumer group')
      else log.warn(about, 'push: an ingress has made its consumer group again, which was lost')
    },
  })
  return new StreamRoad(queue, options, parts)
}
