// Drives a directory with the official client of the did:plc method. Argument: the
// directory's URL. Prints one line of JSON for each thing observed.
'use strict'
const plc = require('@did-plc/lib')
const { Secp256k1Keypair, P256Keypair } = require('@atproto/crypto')

const show = (name, value) => console.log(JSON.stringify([name, value]))
const refused = async (name, promise) => {
  try {
    await promise
    show(name, 'accepted')
  } catch (err) {
    show(name, err.status)
  }
}

async function main(url) {
  const client = new plc.Client(url)
  const recovery = await P256Keypair.create()
  const rotation = await Secp256k1Keypair.create()
  const signing = await Secp256k1Keypair.create()
  const did = await client.createDid({
    signingKey: signing.did(),
    handle: 'alice.example.com',
    pds: 'https://pds.example.com',
    rotationKeys: [recovery.did(), rotation.did()],
    signer: rotation,
  })
  await client.updateHandle(did, rotation, 'bob.example.com')
  await client.updatePds(did, rotation, 'https://new.example.com')
  const doc = await client.getDocument(did)
  show('document', [doc.id === did, doc.alsoKnownAs, doc.service[0].serviceEndpoint])
  const log = await client.getOperationLog(did)
  const state = await plc.validateOperationLog(did, log)
  show('log', [log.length, state.alsoKnownAs])
  const rescue = await plc.createUpdateOp(log[0], recovery, (op) => ({ ...op, alsoKnownAs: ['at://rescued.example.com'] }))
  await client.sendOperation(did, rescue)
  show('nullified', (await client.getAuditableLog(did)).map((e) => e.nullified))
  await refused('again', client.sendOperation(did, rescue))
  await client.tombstone(did, recovery)
  await refused('tombstoned', client.getDocument(did))
  await refused('unknown', client.getDocument('did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'))
  show('did', did)
}

main(process.argv[2]).catch((err) => {
  console.error(err)
  process.exit(1)
})
