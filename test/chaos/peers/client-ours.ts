import { ChaosClient } from '../client.ts'
import { host } from './host.ts'

host(options => new ChaosClient(options))
