package relay_test

import (
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/xrpc/relay"
)

// TestTimesOfRelays: a relay cannot silence an account for good by a message of the far future, nor
// bring back what was before.
func TestTimesOfRelays(t *testing.T) {
	inWorld(t, func(w *world) {
		home, up := w.host("pds.example"), w.host("relay.example")
		alice := home.account("alice")
		r := w.relay("")
		w.must(r.AddRelay(w.ctx, up.name))
		up.say(alice.write(t, map[string]string{"com.example.note/1": "one"}))
		w.settle()
		w.pass(time.Hour)
		say := func(status string, at time.Duration) {
			t.Helper()
			up.say(&commit.Account{DID: alice.did, Active: status == "", Status: status, Time: time.Now().Add(at)})
			w.settle()
		}
		say("suspended", 100*365*24*time.Hour)
		up.say(&commit.Identity{DID: alice.did, Time: time.Now().Add(100 * 365 * 24 * time.Hour)})
		w.settle()
		r.wantStatus(alice, "")
		r.wantRule(up, relay.RuleFuture, 2)
		say("deactivated", 0)
		r.wantStatus(alice, "deactivated")
		say("", -time.Minute) // of before
		r.wantStatus(alice, "deactivated")
		r.wantRule(up, relay.RuleRepeated, 1)
		w.pass(time.Minute)
		say("", 0)
		r.wantStatus(alice, "")
		up.say(&commit.Identity{DID: alice.did, Time: time.Now()})
		w.settle()
		r.want("#commit alice", "#account alice deactivated", "#account alice", "#identity alice")
	})
}

// TestHostSpeaksBeforeRelays: what a relay says of the status of accounts does not count if their host
// is followed, too.
func TestHostSpeaksBeforeRelays(t *testing.T) {
	inWorld(t, func(w *world) {
		home, up := w.host("pds.example"), w.host("relay.example")
		alice := home.account("alice")
		r := w.relay("")
		r.follow(home)
		w.must(r.AddRelay(w.ctx, up.name))
		home.post(alice)
		w.settle()
		up.say(&commit.Account{DID: alice.did, Status: commit.Deleted, Time: time.Now()})
		w.settle()
		r.wantRule(up, relay.RuleHost, 1)
		home.post(alice)
		w.settle()
		r.wantHead(alice)
		r.want("#commit alice", "#commit alice")
	})
}
