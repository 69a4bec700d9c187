// Package platform has the properties of a platform that defaults depend on.
package platform

import "runtime"

// Wasm is set for WebAssembly, where a program has little memory, one thread, and often no files:
// inside a Durable Object, 128 MB for all objects of an isolate.
const Wasm = runtime.GOARCH == "wasm"

// Default returns a default: the usual one, or that for WebAssembly.
func Default[T int | int64](usual, wasm T) T {
	if Wasm {
		return wasm
	}
	return usual
}
