// Package stream is the event stream of XRPC (Event Stream specification): its
// frames, an Outbox that serves a host's event log to any number of
// subscribers, and a Consumer that follows such a stream.
//
// An Outbox keeps the newest frames, encoded once, in a window in memory that all
// subscribers read. A subscriber is nothing but a position: while the window
// covers it, frames come from there; before that, from the store. So the step from backfill
// to live can neither lose nor repeat a frame, a subscriber costs
// no buffer of its own, and one that stalls costs the others nothing. A subscriber that
// was live and falls out of the window is told ConsumerTooSlow.
//
// An Outbox has a goroutine for each subscriber. A server whose connections outlive its process,
// such as the hibernating WebSockets of a Durable Object, keeps the position of each with the
// connection instead, and sends what [storage.Events].Since has after it: [EncodeEvent] makes the
// frames, and [OutdatedFrame] and [Error.Encode] those at the start and the end.
package stream
