// Package relay follows many hosts (PDSes, or other relays) over com.atproto.sync.subscribeRepos,
// verifies each message, and passes on what holds under sequence numbers of its own.
//
//	r := &relay.Relay{Store: store, Identity: resolver}
//	go r.Run(ctx)                           // connections, cursors, repairs, retention
//	r.AddHost(ctx, "pds.example.com")       // what requestCrawl calls, too
//	r.AddLocal(ctx, "pds.here", ownStore)   // a PDS of the same process, with the same checks
//	r.Mount(xrpcServer)                     // the public methods
//	for frame, err := range r.Outbox().Subscribe(ctx, &cursor) { … }
//
// # What is stored
//
// The relay keeps heads without records: [storage.Repos] has for each account its last signed
// commit, and beside it, in the account's key-value namespace, what the relay knows of its status.
// What a message changes of these, and the event that is passed on, are one [storage.Change]. So
// state and stream cannot contradict each other, whatever dies when, and nothing is sent that is
// not durable. The cursors of hosts are saved a moment later. After a crash some messages come
// again; their revisions are known, so they are dropped.
//
// # What is checked
//
// Only the host that the account's DID document names speaks for it. A document that says otherwise
// is fetched anew before a message is refused, so a move is seen with the first message of the new
// host. Commits are checked by [commit.Verifier]. A [Policy] says what becomes of those that break
// a rule; no policy passes on what has no valid signature. If the identity of an account cannot be
// had, its messages wait, and the cursor of the host with them.
//
//	rule                               Strict     Lenient    Observe
//	size, form, signature, rev         dropped    dropped    dropped
//	operations and records             repaired   repaired   passed on
//	proof (the tree before and after)  repaired   passed on  passed on
//	gap (a message was lost)           repaired   repaired   passed on
//
// All are counted per host and rule. An account that is repaired is desynchronized: no commit of it
// is passed on until the host's signed commit was fetched and verified. Then a #sync message of the
// relay's own announces it. Its #identity and #account messages pass meanwhile.
//
// # What is not proven
//
// Signatures prove heads, and proofs of commits prove what changed. Three things are the word of a
// host or a relay alone:
//
//   - Which collections an account of unknown history has. A repair proves the head, not the tree
//     below it; describeRepo says the rest. From then on commits prove each change. So a host can
//     list an account of its own in listReposByCollection under collections that it does not have,
//     or leave it out; it can do neither to an account of another host.
//   - The status of an account (#account), which is that at its host. A relay that was added with
//     AddRelay is believed about accounts whose hosts are not followed directly.
//   - That an identity has changed (#identity). The document is fetched anew in any case.
//
// # How hosts are kept apart
//
// Each host has a budget of bytes for what waits, a number of messages that are worked on at the
// same time, and a rate. A host that is over its rate is not read for a while and shows as
// throttled; nothing of it is dropped. The messages of one account are dealt with in order.
package relay
