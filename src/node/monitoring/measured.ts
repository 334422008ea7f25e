import type { Broker } from '../../broker/broker.ts'
import type { Metrics } from '../../broker/metrics.ts'
import type { Rounds } from '../../delivery/rounds.ts'
import type { Options } from '../../options/options.ts'

/** The hub, as far as it is measured. */
export interface MeasuredHub {
  readonly broker: Pick<Broker, 'connected' | 'links' | 'lag' | 'lags' | 'filling' | 'refused' | 'backlog' | 'nodes'>
  readonly registry: {
    readonly size: number
    readonly topicCount: number
    values(): Iterable<{ readonly transport: 'websocket' | 'sse' }>
  }
  readonly options: Pick<Options, 'name' | 'limits' | 'sse'>
  readonly metrics: Metrics
  readonly rounds: Pick<Rounds, 'watch'>
  readonly isDraining: boolean
  readonly waiting: { connections: number; stalled: number; bytes: number }
  readonly presence: { readonly counts: { topics: number; members: number; followed: number } } | undefined
}

/** What a gauge may read of a registration. */
export interface Measured
  extends Pick<MeasuredHub, 'broker' | 'registry' | 'options' | 'isDraining' | 'waiting' | 'presence'> {
  /** Undefined while the broker cannot be asked. */
  readonly nodes: number | undefined
  readonly events: { readonly waiting: Readonly<Record<string, number>> } | undefined
  readonly ingress: { readonly lag: Readonly<Record<string, number>> }
}
