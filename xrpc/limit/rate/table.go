package rate

import (
	"fmt"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Table has the limits. A limit is a list of one or two windows, all of which apply. An empty list
// means no limit.
type Table struct {
	// All limits the calls of a network to all methods together.
	All []Window
	// Methods are the limits of single methods, by NSID, in addition to All.
	Methods map[string]Rule
	// Writes limits the writes of an account to its repository, in points: see Costs. Methods that
	// write several records count them with Limiter.Writes.
	Writes []Window
	// Costs are the points of writes.
	Costs Costs
	// Moving limits the blobs that an account may upload while it moves to this server. It replaces
	// the limit of com.atproto.repo.uploadBlob.
	Moving []Window
	// Tries limits the password attempts for an account from one network.
	Tries []Window
	// Names limits the number of accounts, existing or not, for which one network may try passwords
	// without having been right before. It bounds the number of counters that strangers can create.
	Names []Window
	// Wrong limits the wrong passwords for an account from all networks together.
	Wrong []Window
	// Known is how long a network is exempt from Wrong after a right password.
	Known time.Duration
	// Endpoints are the limits of everything but methods, by name and network. Clients are those of
	// an OAuth client at an endpoint, from all networks together.
	Endpoints, Clients map[string][]Window
}

// Rule is the limit of a method.
type Rule struct {
	By      By
	Windows []Window
	// Apart exempts the method from Table.All.
	Apart bool
}

// By says what the counter of a limit belongs to.
type By int

// Network and Account: a counter for each network, or for each account that makes requests.
// Requests that are not made by an account of the host are counted by network in both cases.
const (
	Network By = iota
	Account
)

// Costs are the points of writing one record.
type Costs struct{ Create, Update, Delete int }

// Methods with special treatment.
const (
	createRecord = "com.atproto.repo.createRecord"
	putRecord    = "com.atproto.repo.putRecord"
	deleteRecord = "com.atproto.repo.deleteRecord"
	uploadBlob   = "com.atproto.repo.uploadBlob"
)

// Official returns the limits of the official server, with additional limits for some methods that
// send mail or reveal whether an address is in use. The caller may change the result.
func Official() *Table {
	const day = 24 * time.Hour
	by := func(by By, w ...Window) Rule { return Rule{By: by, Windows: w} }
	mails := func() Rule { return by(Account, Window{5, time.Hour}, Window{15, day}) }
	return &Table{
		All: []Window{{3000, 5 * time.Minute}},
		Methods: map[string]Rule{
			"com.atproto.sync.getRepo": {Windows: []Window{{6000, 5 * time.Minute}}, Apart: true},
			uploadBlob:                 by(Account, Window{1000, day}),

			"com.atproto.server.createAccount":            by(Network, Window{100, 5 * time.Minute}),
			"com.atproto.server.deleteAccount":            by(Network, Window{50, 5 * time.Minute}),
			"com.atproto.server.resetPassword":            by(Network, Window{50, 5 * time.Minute}),
			"com.atproto.server.requestPasswordReset":     by(Network, Window{15, time.Hour}, Window{50, day}),
			"com.atproto.server.requestAccountDelete":     mails(),
			"com.atproto.server.requestEmailConfirmation": mails(),
			"com.atproto.server.requestEmailUpdate":       mails(),
			"com.atproto.identity.updateHandle":           by(Account, Window{10, 5 * time.Minute}, Window{50, day}),

			// Those that the official server does not limit.
			"com.atproto.server.reserveSigningKey":              by(Network, Window{100, 5 * time.Minute}),
			"com.atproto.server.updateEmail":                    by(Account, Window{15, time.Hour}, Window{50, day}),
			"com.atproto.identity.requestPlcOperationSignature": mails(),
		},
		Writes: []Window{{5000, time.Hour}, {35000, day}},
		Costs:  Costs{Create: 3, Update: 2, Delete: 1},
		Moving: []Window{{100_000, day}},
		Tries:  []Window{{30, 5 * time.Minute}, {300, day}},
		Names:  []Window{{3000, day}},
		Wrong:  []Window{{300, time.Hour}, {3000, day}},
		Known:  30 * day,

		// The official server has no limits there. A client that is a server of its own comes from
		// one address for all the people who use it, and renews its tokens every quarter of an
		// hour.
		Endpoints: map[string][]Window{
			"par":       {{600, 5 * time.Minute}},
			"authorize": {{600, 5 * time.Minute}},
			"token":     {{3000, 5 * time.Minute}},
			"revoke":    {{600, 5 * time.Minute}},

			// The forms of the pages: those that do what a method does have its limit. Passwords
			// have Tries and Wrong besides, and codes have a limit per account. A page to sign in
			// asks for a challenge for passkeys by itself. Whoever signs up asks for several
			// handles.
			"sign-in":          {{300, 5 * time.Minute}},
			"passkey":          {{600, 5 * time.Minute}},
			"factor":           {{100, 5 * time.Minute}},
			"sign-up":          {{100, 5 * time.Minute}},
			"handle":           {{300, 5 * time.Minute}},
			"password-request": {{15, time.Hour}, {50, day}},
			"password-reset":   {{50, 5 * time.Minute}},
			// The account pages: all forms, and besides those that send mail, and pages that read
			// much.
			"account": {{300, 5 * time.Minute}},
			"mail":    {{30, time.Hour}, {100, day}},
			// As updateEmail, which says whether an address is taken, and updateHandle, which
			// writes to the did:plc directory.
			"email-change":  {{15, time.Hour}, {50, day}},
			"handle-change": {{10, 5 * time.Minute}, {50, day}},
			"account-data":  {{100, 5 * time.Minute}},
			"export":        {{30, time.Hour}, {200, day}},
		},
		// So many requests of one app that are under way leave room for others.
		Clients: map[string][]Window{"par": {{5000, 5 * time.Minute}}},
	}
}

// Validate returns an error that names what is wrong.
func (t *Table) Validate() error {
	for name, windows := range map[string][]Window{"All": t.All, "Writes": t.Writes, "Moving": t.Moving, "Tries": t.Tries, "Names": t.Names, "Wrong": t.Wrong} {
		if err := validate(name, windows); err != nil {
			return err
		}
	}
	for what, table := range map[string]map[string][]Window{"Endpoints": t.Endpoints, "Clients": t.Clients} {
		for name, windows := range table {
			if err := validate(what+"["+name+"]", windows); err != nil {
				return err
			}
		}
	}
	for name, rule := range t.Methods {
		if _, err := syntax.ParseNSID(name); err != nil {
			return fmt.Errorf("rate: Table.Methods: %w", err)
		}
		if rule.By != Network && rule.By != Account {
			return fmt.Errorf("rate: Table.Methods[%s]: By is %d: it is Network or Account", name, rule.By)
		}
		if err := validate("Methods["+name+"]", rule.Windows); err != nil {
			return err
		}
		switch name {
		case createRecord, putRecord, deleteRecord:
			return fmt.Errorf("rate: Table.Methods[%s]: writes of records have their limit in Table.Writes", name)
		}
	}
	if t.Costs.Create < 0 || t.Costs.Update < 0 || t.Costs.Delete < 0 {
		return fmt.Errorf("rate: Table.Costs: negative points: %+v", t.Costs)
	}
	if t.Known < 0 {
		return fmt.Errorf("rate: Table.Known is %s: it is how long a network is left out", t.Known)
	}
	return nil
}

func validate(name string, windows []Window) error {
	if len(windows) > maxWindows {
		return fmt.Errorf("rate: Table.%s has %d windows: there may be %d", name, len(windows), maxWindows)
	}
	for _, w := range windows {
		if w.Points <= 0 || w.Length <= 0 {
			return fmt.Errorf("rate: Table.%s: a window of %d points in %s: both must be positive", name, w.Points, w.Length)
		}
	}
	return nil
}
