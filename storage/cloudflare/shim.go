package cloudflare

import _ "embed"

// Shim is the JavaScript between a Durable Object and a Go program: the module shim.mjs, which a
// Worker imports beside the wasm_exec.js of the Go release that built the program.
//
//go:embed shim.mjs
var Shim string
