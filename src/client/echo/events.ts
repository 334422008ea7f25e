/** All whispers are messages of this type: nodes are told once that clients may publish it. */
export const WHISPER = 'whisper'

/** What Echo calls a whisper named `typing`: `client-typing`. */
export const CLIENT = 'client-'

/** Laravel's own event for notifications. */
export const NOTIFICATION = '.Illuminate\\Notifications\\Events\\BroadcastNotificationCreated'

/**
 * The type of messages for an event as Echo names it: `OrderShipped` in the namespace, `.order.shipped` and
 * `\App\Orders\Shipped` as they are. Types have dots where names of PHP classes have backslashes.
 */
export function typeOf(event: string, namespace: string | false): string {
  const isWhole = event.startsWith('.') || event.startsWith('\\')
  const name = isWhole ? event.slice(1) : namespace ? `${namespace}.${event}` : event
  return name.replaceAll('\\', '.')
}

/** What `listenToAll` calls a type: `OrderShipped`, or `.order.shipped` outside of the namespace. */
export function eventOf(type: string, namespace: string | false): string {
  const prefix = namespace ? `${namespace.replaceAll('\\', '.')}.` : ''
  return prefix && type.startsWith(prefix) ? type.slice(prefix.length) : `.${type}`
}
