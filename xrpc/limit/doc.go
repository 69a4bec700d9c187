// Package limit bounds what the clients of an HTTP server hold at the same time.
//
// Rate limits count requests. They say nothing about a client that makes a hundred requests and
// then reads none of the answers, or sends a body one byte at a time: each of them keeps a
// goroutine, a database snapshot, memory or disk space for as long as the client likes. This
// package bounds that:
//
//   - A request has a [Class]. A class lets a bounded number of requests run at the same time, in
//     all and for each client network (an IPv4 address, an IPv6 /64). What comes beyond waits for a
//     bounded time, in a bounded queue that serves networks in turn, and leaves it when its context
//     ends.
//   - A class has a budget of bytes: bodies that were read, answers that are being written, and
//     whatever else a handler reports with [Hold], such as a temporary file.
//   - A client that takes nothing of its answer, or sends nothing of its body, is cut off after the
//     class's stall time, and one that trickles soon after. This is per request, for HTTP/1.1 and
//     HTTP/2.
//   - A [Listener] bounds connections, which cost memory before they send anything.
//
// Who is refused gets status 429 if its own network holds too much and 503 if all networks together
// do, with Retry-After.
//
// The zero [Limiter] knows the methods of com.atproto and has classes for them, sized for a machine
// with 1 GB of memory:
//
//	var limits limit.Limiter
//	srv := &http.Server{Handler: limits.Handler(mux)}
//	limit.Harden(srv)
//	srv.Serve(&limit.Listener{Listener: l})
//
// [Gate] and [Budget] are the parts that it is made of. Use them for what a handler needs inside,
// such as the hashing of passwords: [ClientOf] says whose request it is.
package limit
