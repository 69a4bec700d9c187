// Reads a relay from its oldest event on with the official consumer, which verifies each, until it has
// seen so many records; then prints what it has, as JSON.
'use strict'
const { IdResolver } = require('@atproto/identity')
const { Firehose, MemoryRunner } = require('@atproto/sync')

const [relay, directory, count] = process.argv.slice(2)
const records = {}
const errors = []
let seen = 0
const firehose = new Firehose({
  service: relay.replace(/^http/, 'ws'),
  idResolver: new IdResolver({ plcUrl: directory }),
  runner: new MemoryRunner({ startCursor: 0 }),
  unauthenticatedHandles: true, // no DNS has them
  onError: (err) => errors.push(`${err} ${err.cause ?? ''}`),
  handleEvent: async (evt) => {
    if (evt.event !== 'create') return
    records[`${evt.did}/${evt.collection}/${evt.rkey}`] = evt.cid.toString()
    if (++seen < Number(count)) return
    await firehose.destroy()
    console.log(JSON.stringify({ records, errors }))
    process.exit(0)
  },
})
firehose.start()
