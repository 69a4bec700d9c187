package operator

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/crawl"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// streamView is the page of the event stream.
type streamView struct {
	*view
	Known          bool // whether the log's bounds are known
	Oldest, Newest int64
	Subscribers    []subscriber
	Left           int // subscribers that are not shown
}

// subscriber is one who reads the stream.
type subscriber struct {
	stream.Subscription
	Behind string // how far, if that can be told
	End    link
}

// shownSubscribers bounds how many are shown.
const shownSubscribers = 200

func (p *Pages) showStream(c *call) error {
	v := &streamView{view: p.view(c, "stream.title")}
	if p.cfg.Events != nil {
		var err error
		if v.Oldest, v.Newest, err = p.cfg.Events.Bounds(c.Context()); err != nil {
			return err
		}
		v.Known = true
	}
	list := p.cfg.Subscribers.Subscriptions()
	if len(list) > shownSubscribers {
		v.Left = len(list) - shownSubscribers
		list = list[:shownSubscribers]
	}
	for _, s := range list {
		v.Subscribers = append(v.Subscribers, subscriber{s, behind(s.Seq, v.Newest), actLink("end-subscriber", strconv.FormatInt(s.ID, 10))})
	}
	return c.Show("stream", v)
}

// behind is how long before the newest event one was made. The numbers of events are times in
// microseconds, or a little more.
func behind(seq, newest int64) string {
	const firstYear = 1_600_000_000_000_000 // 2020: smaller numbers are no times
	if seq < firstYear || newest < seq {
		return ""
	}
	return span(time.Duration(newest-seq) * time.Microsecond)
}

// relaysView is the page of relays.
type relaysView struct {
	*view
	Relays []relay
}

type relay struct {
	crawl.RelayStatus
	// Asked is the result of the last request. Problem is what is wrong with the relay's state.
	// Failed is the reason why the state is unknown.
	Asked, Problem, Failed string
	Good, Silent           bool
	Ask, Look              link
}

func (p *Pages) showRelays(c *call) error {
	v := &relaysView{view: p.view(c, "relays.title")}
	for _, s := range p.cfg.Relays.Status() {
		x := relay{RelayStatus: s, Ask: actLink("ask-relay", s.Relay), Look: actLink("look-relay", s.Relay)}
		if s.Request.Err != nil {
			x.Asked = refusal(s.Request.Err)
		}
		switch {
		case s.CheckedAt.IsZero():
		case errors.Is(s.Check.Err, &xrpc.Error{Name: "MethodNotImplemented"}):
			x.Silent = true
		case s.Check.Err != nil:
			x.Failed = refusal(s.Check.Err)
		case s.Check.Problem != crawl.None:
			x.Problem = v.problem(s.Check.Problem)
		default:
			x.Good = true
		}
		v.Relays = append(v.Relays, x)
	}
	return c.Show("relays", v)
}

// refusal is why a relay has not done what it was asked, without what the page says already: its
// address, the method.
func refusal(err error) string {
	text := err.Error()
	var refused *xrpc.Error
	var failed *url.Error
	switch {
	case errors.As(err, &refused) && refused.Message != "":
		text = refused.Message
	case errors.As(err, &failed):
		text = failed.Err.Error()
	}
	return short(strings.TrimPrefix(text, "xrpc: "), 300)
}

// problem says what is wrong. Words of relays that are not known are shown as they are.
func (v *view) problem(x crawl.Problem) string {
	if key := "relay." + string(x); v.Lang.Has(key) {
		return v.T(key)
	}
	return short(string(x), 60)
}

// Accounts returns how many accounts of the server the relay knows; negative: it does not say.
func (x relay) Accounts() int64 {
	if x.Check.Status.AccountCount == nil {
		return -1
	}
	return *x.Check.Status.AccountCount
}

// Seq returns the last event that the relay says it has seen; negative: it does not say.
func (x relay) Seq() int64 {
	if x.Check.Status.Seq == nil {
		return -1
	}
	return *x.Check.Status.Seq
}
