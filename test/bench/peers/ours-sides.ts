/** This project registered four times in one process: without metrics and with limits that nobody reaches, and with them. */
import { serveSides } from '../lib/measured.ts'

await serveSides()
