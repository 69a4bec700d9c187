// Package relay follows many hosts (PDSes, or other relays) over com.atproto.sync.subscribeRepos,
// verifies each message, and passes on the valid ones under sequence numbers of its own.
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
// The relay keeps heads without records. For each account, [storage.Repos] has its last signed
// commit, and the account's key-value namespace has the status. What a message changes of these,
// and the event that is passed on, are one [storage.Change]. So state and stream cannot contradict
// each other after a crash, and nothing is sent that is not durable. The cursors of hosts are saved
// a moment later. After a crash some messages arrive again; they are dropped, because their
// revisions are known.
//
// # What is checked
//
// Only the host that the account's DID document names may send messages about it. If the cached
// document names another host, it is fetched again before the message is refused. So a migration is
// noticed with the first message of the new host. [commit.Verifier] checks commits. A [Policy]
// decides about commits that break a rule. No policy passes on a commit without a valid signature.
// If an account's identity cannot be resolved at the moment, its messages wait, and the cursor of
// the host with them.
//
//	rule                               Strict     Lenient    Observe
//	size, form, signature, rev         dropped    dropped    dropped
//	operations and records             repaired   repaired   passed on
//	proof (the tree before and after)  repaired   passed on  passed on
//	gap (a message was lost)           repaired   repaired   passed on
//
// All are counted for each host and rule. An account that is being repaired is desynchronized: none
// of its commits is passed on until the relay has fetched and verified the host's signed commit.
// Then the relay announces that commit with a #sync message of its own. #identity and #account
// messages are passed on meanwhile.
//
// # What is not proven
//
// Signatures prove heads, and the proofs in commits prove what changed. Three things rest on the
// word of a host or a relay alone:
//
//   - The collections of an account whose history is unknown. A repair proves the head, not the
//     tree below it; the collections come from describeRepo. From then on, commits prove each
//     change. So a host can list its own account in listReposByCollection under wrong collections,
//     or omit it. It cannot do so with an account of another host.
//   - The status of an account (#account), as its host reports it. A relay that was added with
//     AddRelay is trusted about accounts whose hosts are not followed directly.
//   - That an identity has changed (#identity). The document is fetched again in any case.
//
// # How hosts are kept apart
//
// Each host has a budget of bytes for waiting messages, a limit on messages that are processed
// concurrently, and a rate. A host over its rate is not read for a while and is shown as throttled;
// none of its messages is dropped. The messages of one account are processed in order.
package relay
