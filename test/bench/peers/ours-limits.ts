/** The same with metrics, and with all limits as they are by default. */
import { serveMeasured } from '../lib/measured.ts'

await serveMeasured({ hasMetrics: true, hasLimits: true })
