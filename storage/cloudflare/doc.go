// Package cloudflare runs a PDS inside a Cloudflare Durable Object: Go, built as WebAssembly, over
// the object's own SQLite, R2, and hibernating WebSockets. All but the shim is for GOOS=js only.
//
//	request ─▶ Worker ─▶ Durable Object: shim.mjs ─▶ Go program: handler ─▶ durable.Solo ─▶ Object ─▶ SQLite
//	                                       ▲                                bucket.Store ─▶ Bucket ─▶ R2
//	                     WebSockets ◀──────┴──────────────────────────────── Sockets
//
// A program is
//
//	func main() {
//		host, err := cloudflare.Here()
//		...
//		object, err := host.Object("kv")       // a durable.Object
//		blobs, err := host.Bucket("BLOBS")     // a bucket.Bucket
//		sockets := host.NewSockets(...)        // in the place of a stream.Outbox
//		host.OnAlarm(...)                      // what is to be done later
//		host.Serve(handler)                    // does not return
//	}
//
// # Durability
//
// The database of an object answers at once, and a transaction is durable only some milliseconds
// after that. The platform closes the gap: nothing leaves the object, neither an answer nor a frame
// nor a call of another service, before all that was written up to then is durable (the output
// gate). If it cannot be made durable, the object is aborted, its memory with it, and the next
// request starts a new program from what is stored. So what the contract of package storage says of
// an Apply that returned holds for everybody outside.
//
// # What must not wait
//
// The function of a transaction waits for nothing but the object. Nothing that JavaScript delivers
// later can come before it returns: waiting for a promise (R2, another object, a request of package
// http) ends the program, and waiting for a timer never ends, since clocks stand still while code
// runs.
//
// # What must not tick
//
// An object without requests and timers is evicted after some ten seconds, and costs nothing from
// then on. Sockets stay open, and goroutines that are blocked for good do no harm. Use
// Host.SetAlarm in the place of timers.
//
// # Panics
//
// A panic in a handler gives 500. One in another goroutine ends the program: the object is aborted
// and the next request starts a new one.
package cloudflare
