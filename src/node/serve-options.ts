import type { PushBridgeOptions } from '../options/options.ts'
import { isPlainObject } from '../options/values.ts'
import { withRoadsOf } from './ingress-environment.ts'
import type { ServeSettings } from './serve-settings.ts'

type Identification = Pick<PushBridgeOptions, 'tickets' | 'authenticate' | 'onAuthenticate'>

/** What `serve` registers the plugin with: what the file says, and over it what flags and environment say. */
export function registerOptions(
  settings: ServeSettings,
  identification: Identification,
  metrics?: PushBridgeOptions['metrics'],
): PushBridgeOptions {
  const { origins, events, presence, config } = settings
  const ingress = withRoadsOf(config.options.ingress, settings.ingress)
  const { authenticate: _, onAuthenticate: __, tickets: ___, events: ____, health, ...file } = config.options
  const api = apiOf(settings)
  return {
    ...file,
    path: settings.path,
    limits: { ...file.limits, handshake: settings.handshake },
    redis: settings.redis ?? false,
    redisPrefix: settings.prefix,
    ...identification,
    revocation: { ...file.revocation, ttl: settings.revocationTtl },
    ...(presence && { presence }),
    ...(origins && { origins }),
    ...(events && { events }),
    ...(ingress.length > 0 && { ingress }),
    ...(metrics && { metrics }),
    ...(health !== false && { health: { details: true, ...(isPlainObject(health) && health) } }),
    ...(api && { api }),
  }
}

/** The key of the environment is one more beside those of the file, which may have fewer rights. */
function apiOf({ apiKey, page, config }: ServeSettings): PushBridgeOptions['api'] {
  const { api } = config.options
  const keys = [...(api?.keys ?? []), ...(apiKey ? [apiKey] : [])]
  if (!api && keys.length === 0) return undefined
  return { path: '/push', ...api, ...(keys.length > 0 && { keys }), ...(page !== undefined && { page }) }
}
