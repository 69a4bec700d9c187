// Package timecheck finds out whether a host's clock can be trusted, so that nothing is signed
// while it is wrong.
//
// The revision of a commit is the time at which it was made, and the network ignores commits from
// more than a few minutes ahead (Repository specification). A host that signs while its clock is
// two hours ahead makes each account that it writes to invisible for two hours, and nothing tells
// the user. A clock that is behind does less harm: revisions then follow the account's last one,
// see commit.NextRev.
//
// A Watch compares the clock with three things:
//
//   - the Date headers of servers that the operator has named, such as the did:plc directory and
//     relays. One server that agrees is enough, so that no single server can stop the host. If some
//     answer and none agrees, the clock is wrong;
//   - the newest event in the host's log. An event from the future shows that the clock was ahead
//     then or is behind now. A server that agrees with the clock decides which; without any, the
//     clock is not trusted until the time of the event has come;
//   - the time that has passed since the last check. If the clock was set meanwhile, a new check is
//     made before anything is signed, and without an answer from any server the clock is not
//     trusted. (A machine that slept looks the same, and its check finds nothing wrong.)
//
// Checks run in the background. Servers that cannot be reached are no reason for distrust by
// themselves. A refusal ends with the first check that finds the clock right.
//
//	watch := &timecheck.Watch{Servers: []string{"https://plc.directory"}, Log: store.Events}
//	host := repo.NewHost(repo.Config{Store: store, Signer: signer, CheckClock: watch.Check})
//	go watch.Run(ctx)
package timecheck
