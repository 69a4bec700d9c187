// Package crawl ensures that relays read a host: it asks them to (com.atproto.sync.requestCrawl),
// and checks what they know of the host (com.atproto.sync.getHostStatus).
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
// A relay that stops reading a host tells nobody, and the host continues to write events that
// nobody reads. So relays are asked when the host starts, when it writes, soon when its stream has
// no subscribers, and when their own status says that they do not follow the host.
//
// After a write, the relays are asked at once. Further writes within an interval cause one request
// at its end, so the last write of a host is always announced. Failed requests are repeated with
// increasing delays, a limited number of times.
//
// A host that does not run all the time, such as a Durable Object, uses [Rounds] instead of Run.
package crawl
