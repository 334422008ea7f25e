import { createClient, type SingleSource, type Target } from './client.ts'
import { CommandLink } from './commands.ts'
import { Functions } from './functions.ts'
import { ClusterMasters, type Masters, OneMaster } from './masters.ts'
import { Names } from './names.ts'

/** Links of their own, one to each master. `purpose` is in their name, as CLIENT LIST shows it. */
export function mastersFor(target: Target, prefix: string, purpose: 'publisher' | 'ingress'): Masters {
  const name = `${prefix}${purpose}`
  if (!target.isCluster) return new OneMaster(linkTo(target.one, name, prefix, {}))
  const { seeds, at } = target
  const masters: Masters = new ClusterMasters(
    { seeds, connect: address => createClient(at(address), name) },
    {
      // Another server may have the slots of one that is lost.
      create: address => linkTo(at(address), name, prefix, { isCluster: true, lost: () => void masters.look() }),
      changed: () => {},
      failed: () => {},
    },
  )
  return masters
}

interface LinkOptions {
  isCluster?: boolean
  lost?(): void
}

function linkTo(source: SingleSource, name: string, prefix: string, options: LinkOptions) {
  const commands = new CommandLink(createClient(source, name), isUp => isUp || options.lost?.())
  return {
    names: new Names(prefix),
    commands,
    functions: new Functions(commands, options),
    moveTo: commands.moveTo.bind(commands),
    keysMoved: () => {},
    close: () => commands.close(),
  }
}
