// Package cloudflare runs a PDS inside a Cloudflare Durable Object: Go, built as WebAssembly, over
// the object's own SQLite, R2, and hibernating WebSockets. Everything but the shim is for GOOS=js
// only.
//
//	request ─▶ Worker ─▶ Durable Object: shim.mjs ─▶ Go program: handler ─▶ durable.Solo ─▶ Object ─▶ SQLite
//	                                       ▲                                bucket.Store ─▶ Bucket ─▶ R2
//	                     WebSockets ◀──────┴──────────────────────────────── Sockets
//
// A program looks like this:
//
//	func main() {
//		host, err := cloudflare.Here()
//		...
//		object, err := host.Object("kv")       // a durable.Object
//		blobs, err := host.Bucket("BLOBS")     // a bucket.Bucket
//		sockets := host.NewSockets(...)        // instead of a stream.Outbox
//		host.OnAlarm(...)                      // scheduled work
//		host.Serve(handler)                    // does not return
//	}
//
// # Durability
//
// The database of an object returns at once; a transaction becomes durable some milliseconds later.
// The platform closes the gap (the output gate): no response, frame or call of another service
// leaves the object before everything written until then is durable. If that fails, the platform
// aborts the object with its memory, and the next request starts a new program from the stored
// state. So for everybody outside, the contract of package storage holds: an Apply that returned is
// durable.
//
// # What must not wait
//
// The function of a transaction waits only for the object. Nothing that JavaScript delivers later
// can arrive before the function returns. So waiting for a promise (R2, another object, a request
// of package http) ends the program, and waiting for a timer never ends, since clocks stand still
// while code runs.
//
// # What must not tick
//
// An object without requests and timers is evicted after some ten seconds, and then costs nothing.
// Its WebSockets stay open. Goroutines that are blocked forever do not prevent this. Use
// Host.SetAlarm instead of timers.
//
// # Panics
//
// A panic in a handler gives status 500. A panic in another goroutine ends the program: the object
// is aborted, and the next request starts a new one.
package cloudflare
