/** Bundles what browsers load: the client, which the plugin serves at `<path>/client.js`, and the page of the push API. */
import { cpSync, mkdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const root = new URL('../', import.meta.url)
const pathOf = (name: string) => fileURLToPath(new URL(name, root))

async function bundle(entry: string, outfile: string, target: string): Promise<void> {
  await build({
    entryPoints: [pathOf(entry)],
    outfile: pathOf(outfile),
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target,
    // Fields as plain assignments: a tenth less for the page to load.
    tsconfigRaw: { compilerOptions: { useDefineForClassFields: false } },
  })
  const bytes = readFileSync(pathOf(outfile))
  console.log(`${outfile}: ${bytes.length} bytes, ${gzipSync(bytes).length} gzipped`)
}

await bundle('src/client/index.ts', 'dist/client.module.js', 'es2020')
// Who runs nodes has a browser of this decade.
await bundle('src/page/index.ts', 'dist/page/page.js', 'es2022')
await bundle('src/page/page.css', 'dist/page/page.css', 'es2022')
mkdirSync(pathOf('dist/page'), { recursive: true })
for (const file of ['page.html', 'icon.svg']) cpSync(pathOf(`src/page/${file}`), pathOf(`dist/page/${file}`))
