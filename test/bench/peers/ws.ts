/** Plain ws without a framework, and the message encoded once for all its receivers. */
import { serveWs } from '../lib/plain.ts'

serveWs()
