/** The same with metrics. */
import { serveMeasured } from '../lib/measured.ts'

await serveMeasured({ hasMetrics: true })
