// Package stream implements the event stream of XRPC (Event Stream specification): its frames, an
// [Outbox] that serves a host's event log to any number of subscribers, and a [Consumer] that
// follows such a stream.
//
// An Outbox keeps the newest frames, each encoded once, in a window in memory that all subscribers
// share. A subscriber is only a position. While the window covers the position, frames come from
// the window; before that, from the store:
//
//	 log in the store                         window in memory
//	├───────────────────────────┬──────────────────────────────────┤
//	oldest       ▲              first        ▲                     newest
//	             │ from the store            │ from the window
//	        subscriber A                subscriber B
//
// So the transition from old to new events cannot lose or repeat a frame. A subscriber needs no
// buffer of its own, and a slow one does not affect the others. A subscriber that was in the window
// and falls behind it gets the error ConsumerTooSlow.
//
// An Outbox has a goroutine for each subscriber. Some servers have connections that outlive the
// process, such as the hibernating WebSockets of a Durable Object. They keep the position of each
// subscriber with its connection, and send what [storage.Events].Since yields after it:
// [EncodeEvent] makes the frames, and [OutdatedFrame] and [Error.Encode] those at the start and the
// end.
package stream
