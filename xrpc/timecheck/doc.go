// Package timecheck checks whether a host's clock can be trusted, so that nothing is signed while
// it is wrong.
//
// The revision of a commit is the time of its creation, and the network ignores commits that are
// more than a few minutes ahead (Repository specification). If a host signs while its clock is two
// hours ahead, every account that it writes to is invisible for two hours, and the user is not
// told. A clock that is behind does less harm: revisions then follow the account's last one, see
// commit.NextRev.
//
// A [Watch] compares the clock with three things:
//
//   - The Date headers of servers that the operator has named, such as the did:plc directory and
//     relays. One server that agrees is enough, so that no single server can stop the host. If some
//     answer and none agrees, the clock is wrong.
//   - The newest event in the host's log. An event from the future means that the clock was ahead
//     then or is behind now. A server that agrees with the clock decides which. Without one, the
//     clock is not trusted until the time of the event has come.
//   - The time that has passed since the last check. If the clock was set in the meantime, it is
//     checked again before anything is signed. If then no server answers, the clock is not trusted.
//     (A machine that was suspended looks the same, and its check finds nothing wrong.)
//
// Checks run in the background. Servers that cannot be reached are alone no reason for distrust.
// The first check that finds the clock right ends the distrust.
//
//	watch := &timecheck.Watch{Servers: []string{"https://plc.directory"}, Log: store.Events}
//	host := repo.NewHost(repo.Config{Store: store, Signer: signer, CheckClock: watch.Check})
//	go watch.Run(ctx)
package timecheck
