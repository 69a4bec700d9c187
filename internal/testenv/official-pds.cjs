// Runs the official PDS with the configuration of the environment, until the input ends.
'use strict'
const { pathToFileURL } = require('node:url')

;(async () => {
  const { PDS, envToCfg, envToSecrets, readEnv } = await import(pathToFileURL(require.resolve('@atproto/pds')))
  const env = readEnv()
  const pds = await PDS.create(envToCfg(env), envToSecrets(env))
  await pds.start()
  console.log('ready')
  process.stdin.on('end', () => pds.destroy().then(() => process.exit(0)))
  process.stdin.resume()
})()
