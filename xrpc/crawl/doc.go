// Package crawl keeps relays reading a host: it asks them to
// (com.atproto.sync.requestCrawl), and checks what they know of the host
// (com.atproto.sync.getHostStatus).
//
//	n := &crawl.Notifier{
//		Hostname:    "pds.example.com",
//		Relays:      []string{"https://relay.example.net"},
//		Events:      store.Events,
//		Subscribers: outbox.Subscribers,
//	}
//	outbox.Empty = n.Left
//	go n.Run(ctx)
//
// A relay that has lost a host says so to nobody, and the host goes on writing
// events that nobody reads. So relays are asked when the host starts, when it
// writes, soon if nobody is subscribed to its stream, and when their own answer
// says that they do not follow it.
//
// The writes of a while are told once: the first at once, the others when the interval is over, so
// that a host that falls silent has told of its last write. Requests that fail are
// tried again after growing waits, a limited number of times.
//
// A host that does not run all the time, such as a Durable Object, uses [Rounds] in the place of
// Run.
package crawl
