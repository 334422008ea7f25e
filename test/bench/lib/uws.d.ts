/** As much of uWebSockets.js as the peer needs. */
declare module '@trufflesuite/uws-js-unofficial' {
  export interface UwsSocket {
    getUserData(): { topics: string[] }
    subscribe(topic: string): boolean
    send(message: string, isBinary?: boolean): number
  }
  interface Request {
    getUrl(): string
    getQuery(): string
    getHeader(name: string): string
  }
  interface Response {
    upgrade(data: unknown, key: string, protocol: string, extensions: string, context: unknown): void
  }
  interface Behavior {
    maxBackpressure: number
    idleTimeout: number
    upgrade(response: Response, request: Request, context: unknown): void
    open(socket: UwsSocket): void
    close(socket: UwsSocket): void
  }
  export interface Uws {
    ws(pattern: string, behavior: Behavior): Uws
    publish(topic: string, message: string, isBinary: boolean): boolean
    numSubscribers(topic: string): number
    listen(host: string, port: number, done: (listening: unknown) => void): Uws
  }
  export function App(): Uws
  export function us_socket_local_port(listening: unknown): number
}
