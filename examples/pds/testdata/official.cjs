// Drives a server with the official packages, and verifies with them what it says.
// Arguments: the server's URL, its did:plc directory's. Prints one line of JSON for each thing
// observed: [name, value].
'use strict'
const { AtpAgent } = require('@atproto/api')
const { Secp256k1Keypair } = require('@atproto/crypto')
const { IdResolver } = require('@atproto/identity')
const repo = require('@atproto/repo')
const { Firehose, MemoryRunner } = require('@atproto/sync')
const { createServiceJwt, verifyJwt } = require('@atproto/xrpc-server')
const plc = require('@did-plc/lib')

const show = (name, value) => console.log(JSON.stringify([name, value]))
const note = 'com.example.note'

// refused is the status and error name with which a promise fails.
const refused = (promise) => promise.then(() => 'accepted', (err) => `${err.status} ${err.error}`)

// follow reads the stream from the start, verifying all of it, until it has seen a record.
function follow(url, resolver, last) {
  const seen = { events: {}, records: {}, errors: [] }
  return new Promise((resolve) => {
    const runner = new MemoryRunner({ startCursor: 0 })
    const firehose = new Firehose({
      service: url.replace(/^http/, 'ws'),
      idResolver: resolver,
      runner,
      unauthenticatedHandles: true, // no DNS has them
      onError: (err) => seen.errors.push(`${err} ${err.cause ?? ''}`),
      handleEvent: async (evt) => {
        const kinds = (seen.events[evt.did] ??= {})
        kinds[evt.event] = (kinds[evt.event] ?? 0) + 1
        const records = (seen.records[evt.did] ??= {})
        const path = `${evt.collection}/${evt.rkey}`
        if (evt.event === 'delete') delete records[path]
        else if (evt.cid && evt.collection) records[path] = evt.cid.toString()
        if (path === last) firehose.destroy().then(() => resolve(seen))
      },
    })
    firehose.start()
  })
}

// contents fetches a repository and verifies all of it.
async function contents(agent, did, key) {
  const { data } = await agent.com.atproto.sync.getRepo({ did })
  const verified = await repo.verifyRepoCar(data, did, key)
  const records = {}
  for (const w of verified.creates) records[`${w.collection}/${w.rkey}`] = w.cid.toString()
  return { records, car: data, head: verified.commit.cid.toString(), rev: verified.commit.rev }
}

const same = (a, b) => JSON.stringify(Object.entries(a).sort()) === JSON.stringify(Object.entries(b).sort())

async function main(url, plcUrl) {
  const resolver = new IdResolver({ plcUrl })
  const streamed = follow(url, resolver, `${note}/last`)

  // An account that is made here.
  const alice = new AtpAgent({ service: url })
  await alice.createAccount({ handle: 'alice.test', email: 'alice@example.com', password: 'password of alice' })
  const did = alice.session.did
  const first = await alice.post({ text: 'first', createdAt: new Date().toISOString() })
  const blob = await alice.uploadBlob(Buffer.from('89504e470d0a1a0a', 'hex'), { encoding: 'image/png' })
  await alice.post({
    text: 'a picture',
    embed: { $type: 'app.bsky.embed.images', images: [{ alt: 'nothing', image: blob.data.blob }] },
  })
  await alice.like(first.uri, first.cid)
  await alice.follow(did)
  await alice.upsertProfile((old) => ({ ...old, displayName: 'Alice' }))
  await alice.upsertProfile((old) => ({ ...old, description: 'nobody' }))
  const gone = await alice.post({ text: 'not for long' })
  await alice.deletePost(gone.uri)
  const writes = []
  for (let i = 0; i < 100; i++) {
    writes.push({ $type: 'com.atproto.repo.applyWrites#create', collection: note, rkey: `n${i}`, value: { $type: note, i } })
  }
  const applied = await alice.com.atproto.repo.applyWrites({ repo: did, writes })
  show('applyWrites', applied.data.results.length)
  await alice.com.atproto.repo.applyWrites({
    repo: did,
    writes: [
      { $type: 'com.atproto.repo.applyWrites#update', collection: note, rkey: 'n0', value: { $type: note, i: -1 } },
      { $type: 'com.atproto.repo.applyWrites#delete', collection: note, rkey: 'n1' },
    ],
  })
  const feed = await alice.com.atproto.repo.listRecords({ repo: did, collection: 'app.bsky.feed.post' })
  show('posts', feed.data.records.map((r) => r.value.text))
  const image = await alice.com.atproto.sync.getBlob({ did, cid: blob.data.blob.ref.toString() })
  show('blob', [Buffer.from(image.data).toString('hex'), image.headers['content-type']])
  const described = await alice.com.atproto.repo.describeRepo({ repo: 'alice.test' })
  show('collections', described.data.collections)
  show('handle', [described.data.handleIsCorrect, (await alice.resolveHandle({ handle: 'alice.test' })).data.did === did])

  // Sessions.
  const before = alice.session.refreshJwt
  await alice.sessionManager.refreshSession()
  show('refreshed', alice.session.refreshJwt !== before)
  const bob = new AtpAgent({ service: url })
  show('wrong password', await refused(bob.login({ identifier: 'alice.test', password: 'wrong' })))
  show('no such record', await refused(bob.com.atproto.repo.getRecord({ repo: did, collection: note, rkey: 'none' })))
  show('no such repository', await refused(bob.com.atproto.sync.getRepo({ did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa' })))
  show('not logged in', await refused(bob.com.atproto.repo.createRecord({ repo: did, collection: note, record: {} })))
  await bob.login({ identifier: 'alice@example.com', password: 'password of alice' })
  show('session', (await bob.com.atproto.server.getSession()).data.handle)

  // Proofs.
  const key = await resolver.did.resolveAtprotoKey(did)
  const whole = await contents(alice, did, key)
  show('records', Object.keys(whole.records).length)
  const proof = async (rkey) => (await alice.com.atproto.sync.getRecord({ did, collection: note, rkey })).data
  const there = await repo.verifyRecords(await proof('n7'), did, key)
  show('proof', there.filter((r) => r.rkey === 'n7').map((r) => r.record.i))
  const absent = await repo.verifyProofs(await proof('n1'), [{ collection: note, rkey: 'n1', cid: null }], did, key)
  show('proof of absence', [absent.verified.length, absent.unverified.length])
  const latest = await alice.com.atproto.sync.getLatestCommit({ did })
  show('latest commit', [latest.data.cid === whole.head, latest.data.rev === whole.rev])

  // A service token that is made here.
  const audience = 'did:web:api.example.com'
  const lxm = 'app.bsky.feed.getFeedSkeleton'
  const { token } = (await alice.com.atproto.server.getServiceAuth({ aud: audience, lxm })).data
  const payload = await verifyJwt(token, audience, lxm, async (iss, fresh) => resolver.did.resolveAtprotoKey(iss, fresh))
  show('service token', [payload.iss === did, payload.aud, payload.lxm])

  // An account, with its repository, that was made elsewhere and moves here.
  const rotation = await Secp256k1Keypair.create({ exportable: true })
  const signing = await Secp256k1Keypair.create({ exportable: true })
  const directory = new plc.Client(plcUrl)
  const carol = await directory.createDid({
    signingKey: signing.did(),
    handle: 'carol.example.com',
    pds: 'https://elsewhere.example.com',
    rotationKeys: [rotation.did()],
    signer: rotation,
  })
  const store = new repo.MemoryBlockstore()
  let elsewhere = await repo.Repo.create(store, carol, signing, [
    { action: repo.WriteOpAction.Create, collection: note, rkey: 'zero', record: { $type: note, i: 0 } },
  ])
  for (let batch = 0; batch < 5; batch++) {
    const ops = []
    for (let i = 0; i < 60; i++) {
      ops.push({ action: repo.WriteOpAction.Create, collection: note, rkey: `m${batch}-${i}`, record: { $type: note, batch, i, text: 'x'.repeat(i) } })
    }
    elsewhere = await elsewhere.applyWrites(ops, signing)
  }
  await elsewhere.applyWrites([{ action: repo.WriteOpAction.Delete, collection: note, rkey: 'm2-30' }], signing)
  const chunks = []
  for await (const chunk of repo.getFullRepo(store, await store.getRoot())) chunks.push(chunk)
  const file = Buffer.concat(chunks)

  const server = (await bob.com.atproto.server.describeServer()).data
  const mover = new AtpAgent({ service: url })
  const create = (jwt) =>
    mover.com.atproto.server.createAccount(
      { handle: 'carol.test', did: carol, email: 'carol@example.com', password: 'password of carol' },
      { headers: { authorization: `Bearer ${jwt}` }, encoding: 'application/json' },
    )
  const jwtFor = (keypair, aud, lxm) => createServiceJwt({ iss: carol, aud, lxm, keypair })
  const method = 'com.atproto.server.createAccount'
  show('token of a thief', await refused(create(await jwtFor(rotation, server.did, method))))
  show('token for another', await refused(create(await jwtFor(signing, audience, method))))
  show('token for another method', await refused(create(await jwtFor(signing, server.did, lxm))))
  await create(await jwtFor(signing, server.did, method))
  await mover.login({ identifier: 'carol.test', password: 'password of carol' })
  mover.sessionManager.pdsUrl = new URL(url) // not where its document still says that it is
  await mover.com.atproto.repo.importRepo(file, { encoding: 'application/vnd.ipld.car' })
  show('too early', await refused(mover.com.atproto.server.activateAccount()))
  const wanted = (await mover.com.atproto.identity.getRecommendedDidCredentials()).data
  const op = await plc.createUpdateOp(await directory.getLastOp(carol), rotation, (old) => ({
    ...old,
    ...wanted,
    rotationKeys: [rotation.did(), ...wanted.rotationKeys],
  }))
  await directory.sendOperation(carol, op)
  await mover.com.atproto.server.activateAccount()
  const status = (await mover.com.atproto.server.checkAccountStatus()).data
  show('moved', [status.activated, status.validDid, status.indexedRecords])
  const moved = await contents(mover, carol, await resolver.did.resolveAtprotoKey(carol, true))
  const was = {}
  for (const w of (await repo.verifyRepoCar(file, carol, signing.did())).creates) was[`${w.collection}/${w.rkey}`] = w.cid.toString()
  show('same records', [same(was, moved.records), Object.keys(was).length])
  await mover.com.atproto.repo.createRecord({ repo: carol, collection: note, rkey: 'after', record: { $type: note } })
  // The account that this follows last is the one that waits for everything before it.
  await alice.com.atproto.repo.createRecord({ repo: did, collection: note, rkey: 'last', record: { $type: note } })

  const seen = await streamed
  show('stream errors', seen.errors)
  show('streamed alice', [seen.events[did], same(seen.records[did], (await contents(alice, did, key)).records)])
  show('streamed carol', [seen.events[carol], Object.keys(seen.records[carol] ?? {})])
}

main(...process.argv.slice(2)).then(
  () => process.exit(0),
  (err) => {
    console.error(err)
    process.exit(1)
  },
)
