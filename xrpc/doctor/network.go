package doctor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/timecheck"
)

// Clock returns the check "clock".
func Clock(w *timecheck.Watch) Check {
	return Check{Name: "clock", Run: func(ctx context.Context) []Finding {
		const remedy = "set the clock: \"timedatectl set-ntp true\", then \"timedatectl\" must print \"System clock synchronized: yes\""
		r := w.CheckNow(ctx)
		answers := 0
		var offset time.Duration
		for _, a := range r.Servers {
			if a.Err == nil {
				answers++
				offset = a.Offset
			}
		}
		switch {
		case r.Err != nil:
			return []Finding{Bad(remedy, "%v: nothing is signed", r.Err)}
		case answers == 0 && len(w.Servers) > 0:
			return []Finding{Warn("see whether this machine reaches them", "no server told the time: %s", strings.Join(w.Servers, ", "))}
		case answers == 0:
			return []Finding{Skip("no server is named that could tell the time")}
		case offset.Abs() > 30*time.Second:
			return []Finding{Warn(remedy, "the clock is off by %s", offset.Round(time.Second))}
		}
		return []Finding{Good("the clock is right (%d of %d servers agree)", answers, len(w.Servers))}
	}}
}

// Relays returns the check "relays": what relays know of a host (com.atproto.sync.getHostStatus).
// newest returns the number of the newest event of the host, which is a time in microseconds. A nil
// client means one with a timeout of 10 seconds.
//
// A relay that says that it is not connected is asked again for 15 seconds, since relays need some
// seconds to reconnect to a server that was restarted.
func Relays(client *http.Client, hostname string, relays []string, newest func(context.Context) (int64, error)) Check {
	return Check{Name: "relays", Timeout: comeback + defaultTimeout, Run: func(ctx context.Context) []Finding {
		if len(relays) == 0 {
			return []Finding{Warn("set PDS_CRAWLERS=https://bsky.network, if others are to read what is written here", "no relay is named: the network does not learn of this server")}
		}
		list := make([]Finding, len(relays))
		var all sync.WaitGroup
		for i, relay := range relays {
			all.Go(func() { list[i] = askPatiently(ctx, client, hostname, relay, newest).About(relay) })
		}
		all.Wait()
		return list
	}}
}

// late is how far a relay may be behind. comeback is how long it may take to reconnect. between is
// the interval of requests meanwhile.
const (
	late     = 10 * time.Minute
	comeback = 15 * time.Second
	between  = 2 * time.Second
)

// askPatiently asks a relay, and gives one that is not connected time to come back.
func askPatiently(ctx context.Context, client *http.Client, hostname, relay string, newest func(context.Context) (int64, error)) Finding {
	for end := time.Now().Add(comeback); ; {
		f, away := askRelay(ctx, client, hostname, relay, newest)
		if !away || time.Until(end) < between {
			return f
		}
		if sleep.For(ctx, between) != nil {
			return f
		}
	}
}

// askRelay asks a relay once. away: it says that it is not connected.
func askRelay(ctx context.Context, client *http.Client, hostname, relay string, newest func(context.Context) (int64, error)) (f Finding, away bool) {
	if !strings.Contains(relay, "://") {
		relay = "https://" + relay
	}
	s, err := api.SyncGetHostStatus(ctx, caller(client, relay), api.SyncGetHostStatusParams{Hostname: hostname})
	last, logErr := newest(ctx) // after the answer: the relay cannot be ahead by what is written meanwhile
	if logErr != nil {
		return Bad("see the log of the server", "the event log cannot be read: %v", logErr), false
	}
	return judge(s, err, last), err == nil && (s.Status == "idle" || s.Status == "offline")
}

// judge says what an answer of a relay means.
func judge(s api.SyncGetHostStatusOutput, err error, newest int64) Finding {
	const ask = "\"pds request-crawl\" asks it to read this server; it must reach port 443 from outside"
	var refused *xrpc.Error
	switch {
	case errors.As(err, &refused) && (refused.Status == http.StatusNotImplemented || refused.Status == http.StatusNotFound && refused.Name != "HostNotFound"):
		return Skip("it does not tell what it knows")
	case errors.As(err, &refused) && refused.Status < 500:
		return Bad(ask, "it does not know this server")
	case err != nil:
		return Warn("try again later; see whether this machine reaches it", "it does not answer: %v", brief(err))
	}
	text := "it follows this server"
	if s.AccountCount != nil {
		text += fmt.Sprintf(" and knows %d accounts", *s.AccountCount)
	}
	switch s.Status {
	case "", "active":
	case "banned":
		return Bad("ask its operator why", "it has banned this server")
	case "throttled":
		return Warn("there are more new accounts or events than it takes from one server; ask its operator", "it slows this server down")
	case "idle", "offline":
		return Bad(ask+"; if the server has just been started, look again in a minute", "it says that this server is %s", s.Status)
	default:
		return Warn(ask, "it says that this server is %q", s.Status)
	}
	if s.Seq == nil || *s.Seq < 0 || newest <= 0 {
		return Good("%s", text)
	}
	switch gap := time.Duration(newest-*s.Seq) * time.Microsecond; {
	case gap < 0:
		return Bad("ask its operator to reset its cursor", "it has seen a number that this server has not given yet: the name had another server before, or data was lost")
	case gap > late:
		return Warn(ask, "%s, but is %s behind", text, roughly(gap))
	}
	return Good("%s", text)
}

// roughly is a time for people: in days, where it is long.
func roughly(d time.Duration) string {
	if d > 48*time.Hour {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.Round(time.Second).String()
}

func caller(client *http.Client, host string) *xrpc.Client {
	if client == nil {
		client = &http.Client{Timeout: 10 * time.Second}
	}
	return &xrpc.Client{Host: strings.TrimSuffix(host, "/"), HTTP: client, Retries: -1}
}

// Account is an account of the server to check.
type Account struct {
	DID    syntax.DID
	Handle syntax.Handle
	// Key is its signing key. Nil: it is not compared.
	Key *crypto.PublicKey
}

// Accounts yields the active accounts. The loop may end early.
type Accounts func(ctx context.Context) iter.Seq2[Account, error]

// first returns at most n accounts, and whether there are more.
func (a Accounts) first(ctx context.Context, n int) (list []Account, more bool, err error) {
	for x, err := range a(ctx) {
		if err != nil {
			return list, false, err
		}
		if len(list) == n {
			return list, true, nil
		}
		list = append(list, x)
	}
	return list, false, nil
}

// identitiesAtOnce bounds how many identities are resolved at a time.
const identitiesAtOnce = 8

// Identities returns the check "accounts": whether the DID documents of accounts name this server
// and their signing keys, and whether their handles lead to them. It checks the first most
// accounts.
func (t Target) Identities(accounts Accounts, resolver func() *identity.Resolver, most int) Check {
	return Check{Name: "accounts", Timeout: time.Minute, Run: func(ctx context.Context) []Finding {
		list, more, err := accounts.first(ctx, most)
		if err != nil {
			return []Finding{Bad("\"pds check\" says more", "the accounts cannot be read: %v", err)}
		}
		if len(list) == 0 {
			return []Finding{Skip("there are no accounts yet: \"pds account create EMAIL HANDLE\" makes one")}
		}
		r := resolver() // with an empty cache
		found := make([]Finding, len(list))
		places := make(chan struct{}, identitiesAtOnce)
		var all sync.WaitGroup
		for i, a := range list {
			places <- struct{}{}
			all.Go(func() {
				defer func() { <-places }()
				found[i] = t.identity(ctx, r, a)
			})
		}
		all.Wait()
		var bad []Finding
		for i, f := range found {
			if f.Level != OK {
				bad = append(bad, f.About(string(list[i].Handle)))
			}
		}
		good := len(list) - len(bad)
		text := fmt.Sprintf("of %d accounts, %d have a DID document and a handle that lead here", len(list), good)
		if more {
			text += "; there are more accounts, which were not looked at"
		}
		if good == 0 {
			return bad // each says what to do
		}
		return append([]Finding{Good("%s", text)}, bad...)
	}}
}

// identity looks at one account as the network sees it.
func (t Target) identity(ctx context.Context, r *identity.Resolver, a Account) Finding {
	var id *identity.Identity
	var err error
	if t.Development {
		id = &identity.Identity{DID: a.DID, Handle: a.Handle}
		id.Document, err = r.ResolveDID(ctx, a.DID)
	} else {
		id, err = r.Lookup(ctx, syntax.AtIdentifier(a.DID))
	}
	switch {
	case errors.Is(err, identity.ErrNotFound), errors.Is(err, identity.ErrTombstoned):
		return Bad("if its owner has given it up, \"pds account delete\" it here", "%s is not known to the network: %v", a.DID, err)
	case err != nil:
		return Warn("try again later; see whether this machine reaches the directory", "%s cannot be resolved: %v", a.DID, brief(err))
	}
	if !id.Document.HostedAt(t.URL) {
		at, _ := id.Document.PDS()
		return Bad("if the account has moved there, deactivate it here; if this server got another name, set PDS_HOSTNAME back, or move the accounts with \"pds migrate\"", "the DID document of %s names another server, %s", a.DID, at)
	}
	if key, err := id.Document.SigningKey(); a.Key != nil && (err != nil || !key.Equal(a.Key)) {
		return Bad("restore the newest backup of the database, or have the owner sign a change of the DID (identity.getRecommendedDidCredentials)", "the DID document of %s has another signing key: nobody believes what is signed here", a.DID)
	}
	claimed, _ := id.Document.Handle()
	switch {
	case id.Handle == a.Handle:
		return Good("")
	case claimed != a.Handle:
		return Warn("set the handle again: \"pds account update-handle "+string(a.DID)+" "+string(a.Handle)+"\"", "the DID document of %s has the handle %s", a.DID, claimed)
	}
	remedy := fmt.Sprintf("make the TXT record \"did=%s\" at _atproto.%s, or let https://%s/.well-known/atproto-did answer %s", a.DID, a.Handle, a.Handle, a.DID)
	if host := t.host(); strings.HasSuffix(string(a.Handle), "."+host) {
		remedy = fmt.Sprintf("let names below %s lead here (see the check of DNS), with a certificate for https://%s", host, a.Handle)
	}
	return Warn(remedy, "the handle does not lead to the account, and apps show it as invalid: %s", strings.ReplaceAll(fmt.Sprint(id.HandleErr), "identity: ", ""))
}

// profilesAtOnce is how many profiles an AppView returns at a time.
const profilesAtOnce = 25

// AppView returns the check "appview": whether an AppView knows the first accounts with their
// handles.
func AppView(client *http.Client, url string, accounts Accounts) Check {
	return Check{Name: "appview", Run: func(ctx context.Context) []Finding {
		if url == "" {
			return []Finding{Skip("no AppView is named (PDS_BSKY_APP_VIEW_URL)")}
		}
		list, _, err := accounts.first(ctx, profilesAtOnce)
		if err != nil || len(list) == 0 {
			return []Finding{Skip("there are no accounts to ask for").About(url)}
		}
		var params struct {
			Actors []syntax.DID `json:"actors"`
		}
		for _, a := range list {
			params.Actors = append(params.Actors, a.DID)
		}
		var out struct {
			Profiles []struct {
				DID    syntax.DID `json:"did"`
				Handle string     `json:"handle"`
			} `json:"profiles"`
		}
		if err := caller(client, url).Query(ctx, "app.bsky.actor.getProfiles", params, &out); err != nil {
			var refused *xrpc.Error
			if errors.As(err, &refused) && refused.Status == http.StatusUnauthorized {
				return []Finding{Skip("it tells nothing without a sign-in").About(url)}
			}
			return []Finding{Warn("see whether PDS_BSKY_APP_VIEW_URL is right, and this machine reaches it", "it does not answer: %v", brief(err)).About(url)}
		}
		known := make(map[syntax.DID]string)
		for _, p := range out.Profiles {
			known[p.DID] = p.Handle
		}
		var missing, invalid []string
		for _, a := range list {
			switch handle, ok := known[a.DID]; {
			case !ok:
				missing = append(missing, string(a.Handle))
			case !strings.EqualFold(handle, string(a.Handle)):
				invalid = append(invalid, string(a.Handle)+" (as "+handle+")")
			}
		}
		var found []Finding
		if len(missing) > 0 {
			found = append(found, Warn("post something with it, see the check of relays, and wait some minutes", "it does not know %s", strings.Join(missing, ", ")).About(url))
		}
		if len(invalid) > 0 {
			found = append(found, Warn("see the check of accounts; it looks again when the handle is set again", "it shows other handles for %s", strings.Join(invalid, ", ")).About(url))
		}
		if found == nil {
			found = []Finding{Good("it knows the accounts that were asked for (%d)", len(list)).About(url)}
		}
		return found
	}}
}
