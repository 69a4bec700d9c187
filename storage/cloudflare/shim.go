package cloudflare

import _ "embed"

// Shim is the JavaScript module between a Durable Object and a Go program. A Worker imports it as
// shim.mjs, together with the wasm_exec.js of the Go release that built the program.
//
//go:embed shim.mjs
var Shim string
