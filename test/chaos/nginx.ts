import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { findProgram } from '../helpers/programs.ts'
import { freePort } from '../helpers/redis.ts'
import { Child } from './child.ts'

/** nginx in front of the nodes, round robin, as docs/deployment tells. */
export async function startNginx(
  folder: string,
  upstreams: readonly number[],
): Promise<{ port: number; child: Child }> {
  const port = await freePort()
  const file = `${folder}/nginx.conf`
  writeFileSync(file, configuration(folder, port, upstreams))
  const child = new Child('nginx', findProgram('nginx')!, ['-c', file, '-e', `${folder}/nginx.err`], {
    output: `${folder}/nginx.out`,
  })
  for (let i = 0; i < 100 && !(await accepts(port)); i++) await sleep(50)
  return { port, child }
}

function accepts(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1', () => resolve(true))
    socket.on('error', () => resolve(false))
    socket.on('connect', () => socket.destroy())
  })
}

function configuration(folder: string, port: number, upstreams: readonly number[]): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    name => `${name}_temp_path ${folder}/${name};`,
  )
  return `daemon off;
master_process off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/nginx.err;
events { worker_connections 2000; }
http {
  ${temporary.join('\n  ')}
  access_log off;
  map $http_upgrade $connection_upgrade { default upgrade; '' close; }
  upstream nodes { ${upstreams.map(upstream => `server 127.0.0.1:${upstream} max_fails=0;`).join(' ')} }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://nodes;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $http_host;
      proxy_connect_timeout 1s;
      proxy_read_timeout 60s;
    }
  }
}
`
}
