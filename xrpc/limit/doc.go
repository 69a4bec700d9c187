// Package limit bounds what the clients of an HTTP server hold at the same time.
//
// Rate limits count requests. They do not help against a client that makes a hundred requests and
// then reads none of the responses, or sends a body one byte at a time. Each such request holds a
// goroutine, a database snapshot, memory or disk space as long as the client likes. This package
// bounds that:
//
//   - A request has a [Class]. A class bounds the number of concurrent requests, in total and for
//     each client network (an IPv4 address or an IPv6 /64). Further requests wait in a bounded
//     queue for a bounded time, or until their context ends. The queue serves networks in turn.
//   - A class has a budget of bytes: bodies in memory, responses that are being written, and
//     whatever else a handler reports with [Hold], such as temporary files.
//   - A client that accepts nothing of its response, or sends nothing of its body, is disconnected
//     after the class's stall time. One that is very slow is disconnected soon after. This applies
//     to each request, for HTTP/1.1 and HTTP/2.
//   - A [Listener] bounds connections, which cost memory before they send anything.
//
// A refused request gets status 429 if its own network holds too much, or 503 if all networks
// together do, with Retry-After.
//
// The zero [Limiter] knows the methods of com.atproto and has classes for them, sized for a machine
// with 1 GB of memory:
//
//	var limits limit.Limiter
//	srv := &http.Server{Handler: limits.Handler(mux)}
//	limit.Harden(srv)
//	srv.Serve(&limit.Listener{Listener: l})
//
// [Gate] and [Budget] are its building blocks. Use them for the resources of a handler, such as the
// hashing of passwords: [ClientOf] returns the client of a request.
package limit
