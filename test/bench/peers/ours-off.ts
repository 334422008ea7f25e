/** This project without metrics, and with limits that nobody reaches. */
import { serveMeasured } from '../lib/measured.ts'

await serveMeasured()
