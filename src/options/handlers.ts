import type { Static, TSchema } from 'typebox'
import type { PushConnection } from '../connection/identity.ts'

interface CheckedPayload {
  /** A TypeBox or JSON schema of the payload. A message that does not match is answered with an `error`. */
  schema: TSchema
}

/** Handles messages in the event loop of the node. */
export interface LocalHandler extends CheckedPayload {
  // biome-ignore lint/suspicious/noConfusingVoidType: a handler need not return anything
  handler(payload: never, connection: PushConnection): unknown | void
  worker?: undefined
}

/** Handles messages in a worker thread: for what takes the processor for long. */
export interface WorkerHandler extends CheckedPayload {
  /**
   * A file, such as `new URL('./report.js', import.meta.url)`. Its default export gets `{ payload, connection: { id, user } }`
   * and returns the reply. Needs the package piscina.
   */
  worker: URL | string
  handler?: undefined
}

export type ClientHandler = LocalHandler | WorkerHandler

/** A handler whose payload and reply are known to the compiler: what `clientHandler` gives. */
export interface TypedHandler<S extends TSchema, Reply> extends LocalHandler {
  schema: S
  handler(payload: Static<S>, connection: PushConnection): Reply
}

/** Types the payload of a client message by its schema. The result is the `reply` to a message with a `ref`. */
export function clientHandler<S extends TSchema, Reply>(
  schema: S,
  handler: (payload: Static<S>, connection: PushConnection) => Reply,
): TypedHandler<S, Reply> {
  return { schema, handler }
}

/** What a value is when it has been through JSON: a Date is text, what has no JSON is left out, or null. */
export type Json<T> = unknown extends T
  ? unknown
  : T extends string | number | boolean | null
    ? T
    : T extends { toJSON(): infer J }
      ? Json<J>
      : // biome-ignore lint/suspicious/noConfusingVoidType: a handler that returns nothing replies null
        T extends undefined | void | symbol | ((...args: never[]) => unknown)
        ? null
        : T extends bigint
          ? never
          : T extends readonly unknown[]
            ? { [Index in keyof T]: Json<T[Index]> }
            : { [Key in keyof T as Kept<Key, T[Key]>]: Json<Exclude<T[Key], undefined>> }

type Kept<Key, Value> = Key extends symbol
  ? never
  : Value extends symbol | ((...args: never[]) => unknown)
    ? never
    : Key

/** What each handler is asked and replies, for `connect<Publications, RequestsOf<typeof handlers>>()` of the client. */
export type RequestsOf<Handlers extends Readonly<Record<string, ClientHandler>>> = {
  [Type in keyof Handlers]: {
    payload: Static<Handlers[Type]['schema']>
    // What a worker replies is in another file.
    reply: Handlers[Type] extends { handler: (...args: never[]) => infer Reply } ? Json<Awaited<Reply>> : unknown
  }
}
