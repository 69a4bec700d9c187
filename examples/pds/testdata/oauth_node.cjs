// Drives @atproto/oauth-client-node. Arguments: the server's URL, its did:plc directory's, the address
// that people are sent back to, and a folder for states and sessions, which several processes may share.
// It is a program on somebody's device then. With two further arguments, it is the site at the first,
// which authenticates itself by a key, and reaches all others through the proxy at the second, which is told
// by the header X-Site whom is meant.
// Reads lines [method, argument], and answers each with a line: {value} or {error}.
'use strict'
const fs = require('node:fs')
const path = require('node:path')
const readline = require('node:readline')
const { Agent } = require('@atproto/api')
const { JoseKey, NodeOAuthClient, buildAtprotoLoopbackClientMetadata } = require('@atproto/oauth-client-node')

const [server, plc, redirect, folder, site, proxy] = process.argv.slice(2)
const scope = 'atproto repo:com.example.note'

const store = (kind) => {
  const file = (key) => path.join(folder, `${kind}-${key.replace(/[^A-Za-z0-9]/g, '_')}.json`)
  return {
    get: async (key) => (fs.existsSync(file(key)) ? JSON.parse(fs.readFileSync(file(key), 'utf8')) : undefined),
    set: async (key, value) => {
      fs.writeFileSync(`${file(key)}.${process.pid}`, JSON.stringify(value))
      fs.renameSync(`${file(key)}.${process.pid}`, file(key))
    },
    del: async (key) => fs.rmSync(file(key), { force: true }),
  }
}

console.warn = () => {} // that there is no lock between processes: that is what is tested
const through = async (input, init) => {
  const request = new Request(input, init)
  const url = new URL(request.url)
  const headers = new Headers(request.headers)
  headers.set('X-Site', url.host)
  const body = request.body ? await request.arrayBuffer() : undefined
  return fetch(proxy + url.pathname + url.search, { method: request.method, headers, body, redirect: request.redirect })
}

// key is kept in the folder, so that all processes have the same.
const key = async () => {
  const file = path.join(folder, 'key.json')
  if (!fs.existsSync(file)) fs.writeFileSync(file, JSON.stringify((await JoseKey.generate(['ES256'], 'key')).privateJwk))
  return JoseKey.fromJWK(JSON.parse(fs.readFileSync(file, 'utf8')))
}

let client
const ready = (async () => {
  const stores = { stateStore: store('state'), sessionStore: store('session'), handleResolver: server, plcDirectoryUrl: plc }
  if (!site) {
    client = new NodeOAuthClient({ clientMetadata: buildAtprotoLoopbackClientMetadata({ scope, redirect_uris: [redirect] }), allowHttp: true, ...stores })
    return
  }
  const clientMetadata = {
    client_id: `${site}/oauth-client-metadata.json`, client_name: 'A site', client_uri: site, redirect_uris: [redirect], scope,
    grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], application_type: 'web', dpop_bound_access_tokens: true,
    token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'ES256', jwks_uri: `${site}/jwks.json`,
  }
  client = new NodeOAuthClient({ clientMetadata, keyset: [await key()], fetch: through, ...stores })
})()

const methods = {
  authorize: async (handle) => (await client.authorize(handle, { state: 'of the app' })).href,
  callback: async (query) => {
    const { session, state } = await client.callback(new URLSearchParams(query))
    const { iss, scope } = await session.getTokenInfo(false)
    return { did: session.sub, state, iss, scope }
  },
  write: async ({ did, text }) => {
    const agent = new Agent(await client.restore(did, false))
    const record = { $type: 'com.example.note', text }
    await agent.com.atproto.repo.createRecord({ repo: did, collection: 'com.example.note', record })
    return (await agent.com.atproto.repo.listRecords({ repo: did, collection: 'com.example.note' })).data.records.length
  },
  refresh: async (did) => {
    const { expiresAt } = await (await client.restore(did, true)).getTokenInfo(false)
    return Math.round((expiresAt - Date.now()) / 60000)
  },
  forbidden: async (did) => {
    const agent = new Agent(await client.restore(did, false))
    await agent.com.atproto.repo.createRecord({ repo: did, collection: 'com.example.other', record: { $type: 'com.example.other' } })
  },
  documents: async () => ({ metadata: client.clientMetadata, jwks: client.jwks }),
  revoke: async (did) => client.revoke(did),
}

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const [method, argument] = JSON.parse(line)
  let answer
  try {
    await ready
    answer = { value: (await methods[method](argument)) ?? null }
  } catch (err) {
    answer = { error: `${err.constructor.name}: ${err.error ?? ''} ${err.message}` }
  }
  console.log(JSON.stringify(answer))
})
