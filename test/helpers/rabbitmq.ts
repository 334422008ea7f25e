import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Connection } from 'rabbitmq-client'
import { type Cleanup, Program, temporaryFolder } from './processes.ts'
import { findProgram } from './programs.ts'
import { freePort } from './redis.ts'
import { START, within } from './waiting.ts'

/** A throw-away RabbitMQ of a test's own on the loopback interface, with an epmd of its own. */
export class RabbitmqServer {
  readonly port: number
  readonly #t: Cleanup
  readonly #env: Record<string, string>
  #program: Program | undefined

  private constructor(t: Cleanup, port: number, env: Record<string, string>) {
    this.#t = t
    this.port = port
    this.#env = env
  }

  /** Starts a server that ends with `t`. */
  static async open(t: Cleanup): Promise<RabbitmqServer> {
    const folder = temporaryFolder(t)
    const [port, distribution, epmd] = [await freePort(), await freePort(), await freePort()]
    for (const name of ['db', 'log', 'home']) mkdirSync(join(folder, name))
    writeFileSync(join(folder, 'plugins'), '[].\n')
    writeFileSync(join(folder, 'rabbitmq.conf'), 'disk_free_limit.absolute = 1MB\n')
    const env = {
      HOME: join(folder, 'home'),
      ERL_EPMD_PORT: String(epmd),
      ERL_EPMD_ADDRESS: '127.0.0.1',
      RABBITMQ_NODENAME: `push-${port}@localhost`,
      RABBITMQ_NODE_IP_ADDRESS: '127.0.0.1',
      RABBITMQ_NODE_PORT: String(port),
      RABBITMQ_DIST_PORT: String(distribution),
      RABBITMQ_MNESIA_BASE: join(folder, 'db'),
      RABBITMQ_LOG_BASE: join(folder, 'log'),
      RABBITMQ_LOGS: '-',
      RABBITMQ_CONFIG_FILE: join(folder, 'rabbitmq'),
      RABBITMQ_CONF_ENV_FILE: join(folder, 'none'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, 'plugins'),
      RABBITMQ_PID_FILE: join(folder, 'pid'),
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}',
      // Then the script becomes the server, and a signal reaches it.
      RUNNING_UNDER_SYSTEMD: 'true',
    }
    new Program(t, findProgram('epmd')!, ['-port', String(epmd), '-address', '127.0.0.1'], { env })
    const server = new RabbitmqServer(t, port, env)
    await server.start()
    return server
  }

  get url(): string {
    return `amqp://guest:guest@127.0.0.1:${this.port}`
  }

  /** Again on the same port and with what is on its disk, after `kill`. */
  async start(): Promise<void> {
    const binary = findProgram('/usr/lib/rabbitmq/bin/rabbitmq-server', 'rabbitmq-server')!
    this.#program = new Program(this.#t, binary, [], { env: this.#env })
    await this.#program.line(/Server startup complete/, START)
  }

  /** kill -9. */
  kill(): Promise<void> {
    return this.#program!.stop('SIGKILL')
  }

  get isRunning(): boolean {
    const { exitCode, signalCode } = this.#program!.process
    return exitCode === null && signalCode === null
  }

  /** It does nothing any more, until `thaw`. */
  freeze(): void {
    this.#program!.process.kill('SIGSTOP')
  }

  thaw(): void {
    this.#program!.process.kill('SIGCONT')
  }

  /** A connection for looking in. Closed with `t`; it comes back by itself after `kill`. */
  connect(t: Cleanup): Connection {
    const connection = new Connection({ url: this.url, retryLow: 100, retryHigh: 1000, acquireTimeout: START })
    connection.on('error', () => {})
    t.after(() => connection.unsafeDestroy())
    return connection
  }

  /** How many messages wait in a queue. */
  async count(connection: Connection, queue: string): Promise<number> {
    const asked = connection.queueDeclare({ queue, passive: true })
    const { messageCount } = await within(asked, `the number of messages in ${queue}`)
    return messageCount
  }
}
