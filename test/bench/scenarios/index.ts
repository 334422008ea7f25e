import type { Scenario } from '../lib/scenario.ts'
import { scenario as behind } from './behind.ts'
import { scenario as burst } from './burst.ts'
import { scenario as ceiling } from './ceiling.ts'
import { scenario as codecs } from './codecs.ts'
import { scenario as compression } from './compression.ts'
import { scenario as groups } from './groups.ts'
import { scenario as idle } from './idle.ts'
import { scenario as mixed } from './mixed.ts'
import { scenario as overhead } from './overhead.ts'
import { scenario as overload } from './overload.ts'
import { scenario as paced } from './paced.ts'
import { scenario as presence } from './presence.ts'
import { scenario as recorded } from './recorded.ts'
import { scenario as responsive } from './responsive.ts'
import { scenario as revocation } from './revocation.ts'
import { scenario as stalled } from './stalled.ts'
import { scenario as storm } from './storm.ts'
import { scenario as streams } from './streams.ts'
import { scenario as unicast } from './unicast.ts'
import { scenario as workers } from './workers.ts'

export const SCENARIOS: Scenario[] = [
  burst,
  paced,
  unicast,
  idle,
  mixed,
  stalled,
  responsive,
  storm,
  groups,
  behind,
  overload,
  recorded,
  presence,
  revocation,
  workers,
  overhead,
  compression,
  codecs,
  streams,
  ceiling,
]
