import { type Admission, ChannelError, type PushConnectorOptions } from './options.ts'

const WITHIN = 10_000

/** The token that Laravel puts into its pages against forged requests. */
function csrfToken({ csrfToken }: PushConnectorOptions): string | null | undefined {
  const { Laravel } = globalThis as { Laravel?: { csrfToken?: string } }
  const meta = () => globalThis.document?.querySelector('meta[name="csrf-token"]')?.getAttribute('content')
  return Laravel?.csrfToken || csrfToken || meta()
}

function headersOf(options: PushConnectorOptions): Record<string, string> {
  const csrf = csrfToken(options)
  return {
    'Content-Type': 'application/json',
    Accept: 'application/json',
    ...(csrf && { 'X-CSRF-TOKEN': csrf }),
    ...(options.bearerToken && { Authorization: `Bearer ${options.bearerToken}` }),
    ...options.auth?.headers,
  }
}

/** Asks the backend which of `channels` the user may hear. Rejects with a ChannelError. */
export async function askBackend(options: PushConnectorOptions, channels: string[]): Promise<Admission> {
  const { authEndpoint = '/broadcasting/auth', credentials = 'same-origin', admit } = options
  if (admit) return usable(await admit(channels), 'admit()')
  const giveUp = new AbortController()
  const timer = setTimeout(() => giveUp.abort(), WITHIN)
  try {
    const response = await fetch(authEndpoint, {
      method: 'POST',
      headers: headersOf(options),
      body: JSON.stringify({ channels }),
      credentials,
      signal: giveUp.signal,
    })
    const { ok, status } = response
    if (!ok) throw new ChannelError(`${authEndpoint} answered ${status}`, { status })
    return usable(await response.json().catch(() => undefined), authEndpoint)
  } catch (cause) {
    if (cause instanceof ChannelError) throw cause
    throw new ChannelError(`${authEndpoint} did not answer`, { cause })
  } finally {
    clearTimeout(timer)
  }
}

function usable(answer: unknown, giver: string): Admission {
  const { ticket, denied } = Object(answer) as Partial<Admission>
  if (typeof ticket === 'string' && ticket) return { ticket, denied: Object(denied) as Record<string, number> }
  throw new ChannelError(`${giver} gave no ticket: is the broadcasting driver "push"?`)
}
