package admin

import (
	"context"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// What is shown, on pages and as JSON. Times that are zero are left out.

type hostView struct {
	Host     string               `json:"host"`
	Status   relay.HostStatus     `json:"status"`
	Relay    bool                 `json:"relay,omitempty"`
	Local    bool                 `json:"local,omitempty"`
	Added    time.Time            `json:"added"`
	Policy   string               `json:"policy"`
	Limits   limitsView           `json:"limits"`
	Cursor   int64                `json:"cursor"` // of the host's own numbers
	Accounts int64                `json:"accounts"`
	TooMany  int64                `json:"throttledAccounts"`
	Since    time.Time            `json:"connected,omitzero"`
	Heard    time.Time            `json:"heard,omitzero"`
	Failures int                  `json:"failures"`
	Next     time.Time            `json:"nextTry,omitzero"`
	Error    string               `json:"error,omitempty"`
	Waiting  int64                `json:"waitingBytes"`
	Messages int64                `json:"messages"` // since the start, as Passed and Rules
	Passed   int64                `json:"passed"`
	Rate     float64              `json:"perSecond"`
	Rules    map[relay.Rule]int64 `json:"rules"`
}

// limitsView are limits; a negative number: there is none.
type limitsView struct {
	Accounts int64   `json:"accounts"`
	Rate     float64 `json:"rate"`
	Burst    int64   `json:"burst"`
}

func (a *Admin) hostView(h relay.Host) hostView {
	policy := string(h.Policy)
	if h.Policy == relay.Strict {
		policy = "strict"
	}
	return hostView{
		Host: h.Name, Status: h.Status, Relay: h.Relay, Local: h.Local, Added: h.Added, Policy: policy, Limits: limitsView(h.Limits),
		Cursor: h.Seq, Accounts: h.Accounts, TooMany: h.Throttled, Since: h.Connected, Heard: h.Heard, Failures: h.Failures, Next: h.Next,
		Error: h.Error, Waiting: h.Waiting, Messages: h.Messages, Passed: h.Passed, Rate: a.rates.of(h.Name, time.Now()), Rules: h.Rules,
	}
}

// Broken is how many messages broke a rule, passed on or not.
func (h hostView) Broken() (n int64) {
	for _, count := range h.Rules {
		n += count
	}
	return n
}

// hosts returns up to limit hosts after one of them, whose name has a text and whose status is one
// (empty: any), and counts of all hosts by status.
func (a *Admin) hosts(ctx context.Context, after, text, status string, limit int) (list []hostView, total totals, err error) {
	const page = 1000
	total.Status = map[relay.HostStatus]int{}
	for from := ""; ; {
		all, err := a.cfg.Relay.Hosts(ctx, from, page)
		if err != nil {
			return nil, total, err
		}
		for _, h := range all {
			from = h.Name
			total.Hosts++
			total.Status[h.Status]++
			total.Accounts += h.Accounts
			total.Rate += a.rates.of(h.Name, time.Now())
			if h.Name <= after || !strings.Contains(h.Name, strings.ToLower(text)) || status != "" && string(h.Status) != status {
				continue
			}
			if len(list) == limit {
				total.More = true
				continue
			}
			list = append(list, a.hostView(h))
		}
		if len(all) < page {
			return list, total, nil
		}
	}
}

// totals are counts of all hosts.
type totals struct {
	Hosts    int                      `json:"hosts"`
	Status   map[relay.HostStatus]int `json:"status"`
	Accounts int64                    `json:"accounts"`
	Rate     float64                  `json:"perSecond"`
	More     bool                     `json:"-"` // there are more hosts than were asked for
}

type accountView struct {
	DID       syntax.DID `json:"did"`
	Host      string     `json:"host"`
	Status    string     `json:"status"` // "active", or why nothing is passed on
	Upstream  string     `json:"upstream"`
	TakenDown bool       `json:"takenDown"`
	Rev       syntax.TID `json:"rev,omitempty"`
	Commit    string     `json:"commit,omitempty"`
	Data      string     `json:"data,omitempty"`
}

const active = "active"

func accountOf(x relay.Account) accountView {
	v := accountView{DID: x.DID, Host: x.Host, Status: x.Status, Upstream: x.Upstream, TakenDown: x.TakenDown, Rev: x.Head.Rev}
	if v.Status == "" {
		v.Status = active
	}
	if v.Upstream == "" {
		v.Upstream = active
	}
	if x.Head.Commit.Defined() {
		v.Commit, v.Data = x.Head.Commit.String(), x.Head.Data.String()
	}
	return v
}

type consumerView struct {
	ID      int64     `json:"id"`
	Address string    `json:"address"`
	Agent   string    `json:"agent"`
	JSON    bool      `json:"json"`
	Since   time.Time `json:"since"`
	Cursor  *int64    `json:"cursor,omitempty"` // what it asked for
	Seq     int64     `json:"seq"`              // what it was sent last
	Waiting int64     `json:"waitingBytes"`
	Past    bool      `json:"readsOldEvents"`
}

func (a *Admin) consumers() []consumerView {
	list := []consumerView{}
	for _, s := range a.cfg.Relay.Outbox().Subscriptions() {
		list = append(list, consumerOf(s))
	}
	return list
}

func consumerOf(s stream.Subscription) consumerView {
	return consumerView{ID: s.ID, Address: s.Address, Agent: s.Agent, JSON: s.JSON, Since: s.Since, Cursor: s.Cursor, Seq: s.Seq, Waiting: s.Waiting, Past: s.Past}
}

// statusView is the relay as a whole.
type statusView struct {
	Status
	Totals    totals    `json:"totals"`
	Oldest    int64     `json:"oldest"` // number of the oldest event that can be replayed
	Newest    int64     `json:"newest"`
	NewestAt  time.Time `json:"newestAt,omitzero"`
	Consumers int       `json:"consumers"`
	Memory    uint64    `json:"memoryBytes"`
}
