package admin

import (
	"context"
	"math"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/relay"
)

// input is what an act is told. Each act needs some of it.
type input struct {
	Host     string   `json:"host"`
	Name     string   `json:"name"` // of a host or domain
	Reason   string   `json:"reason"`
	DID      string   `json:"did"`
	Policy   string   `json:"policy"`   // "default" takes the host's own away
	Accounts *float64 `json:"accounts"` // limits; if all are missing, the host's own are taken away
	Rate     *float64 `json:"rate"`
	Burst    *float64 `json:"burst"`
	ID       int64    `json:"id"` // of a consumer
}

// act is something that is done.
type act struct {
	do   func(a *Admin, ctx context.Context, in input) error
	done string                // what the page says afterwards
	page func(in input) string // the page to go to
}

func toHost(in input) string    { return pageHost(in.Host) }
func toHosts(input) string      { return Root }
func toBans(input) string       { return Root + "/bans" }
func toAccount(in input) string { return pageAccount(syntax.DID(in.DID)) }
func toConsumers(input) string  { return Root + "/consumers" }
func onHost(f func(r *relay.Relay, ctx context.Context, name string) error) func(*Admin, context.Context, input) error {
	return func(a *Admin, ctx context.Context, in input) error { return f(a.cfg.Relay, ctx, in.Host) }
}

func onAccount(f func(r *relay.Relay, ctx context.Context, did syntax.DID) error) func(*Admin, context.Context, input) error {
	return func(a *Admin, ctx context.Context, in input) error {
		did, err := syntax.ParseDID(in.DID)
		if err != nil {
			return problem("that is no DID: " + err.Error())
		}
		return f(a.cfg.Relay, ctx, did)
	}
}

// acts are all of them, by name.
var acts = map[string]act{
	"addHost":     {onHost((*relay.Relay).AddHost), "The host is followed.", toHosts},
	"addRelay":    {onHost((*relay.Relay).AddRelay), "The relay is followed.", toHosts},
	"reconnect":   {onHost((*relay.Relay).Reconnect), "The connection is made anew.", toHost},
	"resetCursor": {onHost((*relay.Relay).ResetCursor), "The host is read from its oldest message on.", toHost},
	"compare":     {onHost((*relay.Relay).Compare), "The host's repositories are being compared.", toHost},
	"setLimits":   {(*Admin).setLimits, "The limits were changed.", toHost},
	"setPolicy":   {(*Admin).setPolicy, "The policy was changed.", toHost},
	"ban":         {(*Admin).ban, "It is banned, with all below it.", toBans},
	"unban":       {(*Admin).unban, "The ban has ended.", toBans},
	"takedown":    {onAccount((*relay.Relay).Takedown), "The account is taken down.", toAccount},
	"restore":     {onAccount((*relay.Relay).Restore), "The takedown has ended.", toAccount},
	"repair":      {onAccount((*relay.Relay).Repair), "The account is fetched from its host and compared.", toAccount},
	"endConsumer": {(*Admin).endConsumer, "The connection was ended.", toConsumers},
}

// run does an act and notes that in the log.
func (a *Admin) run(ctx context.Context, address, name string, in input) (act, error) {
	x, ok := acts[name]
	if !ok {
		return x, problem("there is no such act")
	}
	err := x.do(a, ctx, in)
	a.cfg.Logger.WarnContext(ctx, "an administrator's act", "act", name, "host", in.Host+in.Name, "account", in.DID, "reason", in.Reason, "from", address, "err", err)
	return x, err
}

func (a *Admin) setLimits(ctx context.Context, in input) error {
	if in.Accounts == nil && in.Rate == nil && in.Burst == nil {
		return a.cfg.Relay.SetLimits(ctx, in.Host, nil)
	}
	var l relay.Limits
	for _, part := range []struct {
		from *float64
		to   func(float64)
	}{
		{in.Accounts, func(v float64) { l.Accounts = int64(v) }},
		{in.Rate, func(v float64) { l.Rate = v }},
		{in.Burst, func(v float64) { l.Burst = int64(v) }},
	} {
		switch {
		case part.from == nil:
		case math.IsNaN(*part.from) || math.Abs(*part.from) > 1e12:
			return problem("a limit is too large")
		case *part.from >= 0 && *part.from < 1:
			return problem("a limit is at least 1, or negative for no limit")
		default:
			part.to(*part.from)
		}
	}
	return a.cfg.Relay.SetLimits(ctx, in.Host, &l)
}

func (a *Admin) setPolicy(ctx context.Context, in input) error {
	var p relay.Policy
	switch in.Policy {
	case "default":
		return a.cfg.Relay.SetPolicy(ctx, in.Host, nil)
	case "strict":
		p = relay.Strict
	case string(relay.Lenient), string(relay.Observe):
		p = relay.Policy(in.Policy)
	default:
		return problem("there are the policies strict, lenient, observe and default")
	}
	return a.cfg.Relay.SetPolicy(ctx, in.Host, &p)
}

func (a *Admin) ban(ctx context.Context, in input) error {
	return a.cfg.Relay.Ban(ctx, in.Name, in.Reason)
}

func (a *Admin) unban(ctx context.Context, in input) error { return a.cfg.Relay.Unban(ctx, in.Name) }

func (a *Admin) endConsumer(_ context.Context, in input) error {
	if !a.cfg.Relay.Outbox().End(in.ID) {
		return problem("there is no such consumer any more")
	}
	return nil
}
