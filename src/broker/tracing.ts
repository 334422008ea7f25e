import { channel } from 'node:diagnostics_channel'

/**
 * What happens to publications and connections, for whoever follows it in this process: docs/operations.md has the fields.
 * Check `hasSubscribers` before an event is made, so that nobody pays for what nobody follows. No event has a payload.
 */
export const tracing = {
  publish: channel('fastify-push-bridge:publish'),
  receive: channel('fastify-push-bridge:receive'),
  deliver: channel('fastify-push-bridge:deliver'),
  write: channel('fastify-push-bridge:write'),
  connect: channel('fastify-push-bridge:connect'),
  subscribe: channel('fastify-push-bridge:subscribe'),
  close: channel('fastify-push-bridge:close'),
} as const
