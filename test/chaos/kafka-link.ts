import { connect, type Socket } from 'node:net'
import type { KafkaConfig } from './ingress.ts'

interface Wanted {
  host: string
  port: number
  onConnect(): void
}

/** What kafkajs is given. The brokers announce their own ports: the connections are led through the proxies here. */
export function kafkaSettings({ brokers, ports }: KafkaConfig): object {
  const socketFactory = ({ host, port, onConnect }: Wanted): Socket =>
    connect({ host, port: ports[port] ?? port }, onConnect)
  return { brokers, socketFactory, connectionTimeout: 1000, requestTimeout: 3000 }
}
