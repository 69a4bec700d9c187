// A page that uses @atproto/oauth-client-browser. The page says in window.config where the server is.
import { Agent } from '@atproto/api'
import { BrowserOAuthClient, buildAtprotoLoopbackClientMetadata } from '@atproto/oauth-client-browser'

const { server, plc, redirect } = window.config
const scope = 'atproto repo:com.example.note'
const show = (text) => { document.getElementById('state').textContent = text }
const attempt = async (f) => {
  try {
    show(await f())
  } catch (err) {
    show(`${err.constructor.name}: ${err.error ?? ''} ${err.message}`)
  }
}
const button = (name, f) => {
  const b = document.createElement('button')
  b.textContent = name
  b.onclick = () => attempt(f)
  document.body.append(b)
}

const client = new BrowserOAuthClient({
  clientMetadata: buildAtprotoLoopbackClientMetadata({ scope, redirect_uris: [redirect] }),
  handleResolver: server,
  plcDirectoryUrl: plc,
  allowHttp: true,
})
let session
button('Log in', () => client.signInRedirect(document.getElementById('handle').value))
button('Write', async () => {
  const agent = new Agent(session)
  await agent.com.atproto.repo.createRecord({ repo: session.sub, collection: 'com.example.note', record: { $type: 'com.example.note', text: 'of the browser' } })
  return 'written'
})
button('Refresh', async () => {
  session = await client.restore(session.sub, true)
  return `refreshed for ${Math.round(((await session.getTokenInfo(false)).expiresAt - Date.now()) / 60000)} minutes`
})
button('Log out', async () => {
  await session.signOut()
  return 'logged out'
})
await attempt(async () => {
  const result = await client.init(false)
  session = result?.session
  return session ? `${result.state === undefined ? 'restored' : 'logged in'} ${session.sub}` : 'nobody'
})
