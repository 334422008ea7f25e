/** What people write first, without `.default`. */
const app = require('fastify')()
app.register(require('fastify-push-bridge'), { path: '/ws' })
app.ready().then(() => {
  console.log(typeof app.push.publish)
  return app.close()
})
