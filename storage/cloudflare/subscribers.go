package cloudflare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// SocketsConfig configures Sockets. Events is required.
type SocketsConfig struct {
	// Events is the log.
	Events storage.Events
	// Max bounds the number of sockets. 0: 128.
	Max int
	// MaxPerNetwork bounds the number of sockets of one network: an IPv4 address or an IPv6 /64. 0:
	// 16.
	MaxPerNetwork int
	// Rate bounds the bytes that a socket is sent in a second, with a burst of a quarter of that.
	// 0: 1 MiB.
	Rate int
	// Unread bounds the estimated unread bytes of a socket: see Sockets. 0: 8 MiB.
	Unread int64
	// TotalUnread bounds the sum over all sockets. 0: 32 MiB.
	TotalUnread int64
	// Empty, if not nil, is called when the last socket was closed. It may be called once too
	// often.
	Empty func()
	// Failed, if not nil, is called when the log cannot be read. All sockets are then closed.
	Failed func(error)
}

// defaults replaces zero values.
func (c *SocketsConfig) defaults() {
	orDefault(&c.Max, 128)
	orDefault(&c.MaxPerNetwork, 16)
	orDefault(&c.Rate, 1<<20)
	orDefault(&c.Unread, 8<<20)
	orDefault(&c.TotalUnread, 32<<20)
}

func orDefault[T int | int64](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// subscriber is a socket, as it is accounted for.
type subscriber struct {
	id       int64
	position int64 // number of the last event that was sent, or its cursor
	unread   int64 // bytes that it may not have read, at the time of since
	since    time.Time
	network  string

	live bool      // it has had all events of the past
	next time.Time // when its rate allows it the next bytes
}

// note is what the socket keeps of a subscriber besides its number.
func (s *subscriber) note() string {
	return fmt.Sprintf("%d %d %d %s", s.position, s.unread, s.since.UnixMilli(), s.network)
}

var errNote = errors.New("cloudflare: malformed note of a socket")

// parseSubscriber reads what a socket has kept.
func parseSubscriber(id, note string) (*subscriber, error) {
	fields := strings.Split(note, " ")
	if len(fields) != 4 {
		return nil, errNote
	}
	var numbers [4]int64
	for i, f := range append([]string{id}, fields[:3]...) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil || n < 0 {
			return nil, errNote
		}
		numbers[i] = n
	}
	return &subscriber{
		id: numbers[0], position: numbers[1], unread: numbers[2], since: time.UnixMilli(numbers[3]), network: fields[3],
	}, nil
}

// readRate is how many bytes a second a peer is trusted to read.
const readRate = 1 << 10

// settle brings what may be unread up to date.
func (s *subscriber) settle(now time.Time) {
	if passed := now.Sub(s.since); passed > 0 {
		s.unread = max(0, s.unread-int64(passed.Seconds()*readRate))
	}
	s.since = now
}

// sent notes that a page was sent.
func (s *subscriber) sent(now time.Time, p page, rate int) {
	s.settle(now)
	s.unread += int64(p.bytes)
	s.position, s.live = max(s.position, p.last), !p.more
	if s.next.Before(now) {
		s.next = now
	}
	s.next = s.next.Add(time.Duration(p.bytes) * time.Second / time.Duration(rate))
}

// subscribers are all sockets.
type subscribers struct {
	cfg  SocketsConfig
	byID map[int64]*subscriber
	last int64
}

// add adds a subscriber, and gives it a number if it has none.
func (s *subscribers) add(sub *subscriber) {
	if sub.id == 0 {
		sub.id = s.last + 1
	}
	s.last = max(s.last, sub.id)
	s.byID[sub.id] = sub
}

func (s *subscribers) remove(id int64) { delete(s.byID, id) }

// room reports whether there is room for one more of a network.
func (s *subscribers) room(network string) bool {
	same := 0
	for _, sub := range s.byID {
		if sub.network == network {
			same++
		}
	}
	return len(s.byID) < s.cfg.Max && same < s.cfg.MaxPerNetwork
}

// group is subscribers that are to be sent the same page.
type group struct {
	position int64
	live     bool
	members  []*subscriber
}

// due returns the groups that may be sent something now, and how long it takes until another one
// may; 0: there is none.
func (s *subscribers) due(now time.Time) (groups []group, delay time.Duration) {
	var list, later []*subscriber
	for _, sub := range s.byID {
		if wait := sub.next.Sub(now); wait <= burst {
			list = append(list, sub)
		} else {
			later = append(later, sub)
		}
	}
	slices.SortFunc(list, func(a, b *subscriber) int {
		return cmp.Or(cmp.Compare(a.position, b.position), compareBool(a.live, b.live), cmp.Compare(a.id, b.id))
	})
	for _, sub := range list {
		if n := len(groups); n > 0 && groups[n-1].position == sub.position && groups[n-1].live == sub.live {
			groups[n-1].members = append(groups[n-1].members, sub)
		} else {
			groups = append(groups, group{sub.position, sub.live, []*subscriber{sub}})
		}
	}
	return groups, s.sooner(0, later, now)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// burst is how far ahead of its rate a subscriber may be.
const burst = 250 * time.Millisecond

// pageFrames is how many bytes of frames are sent at once.
func pageFrames(rate int) int { return max(1, int(int64(rate)*int64(burst)/int64(time.Second))) }

// sooner is the lesser of a delay, if it is not 0, and the time until one of the subscribers is
// due.
func (s *subscribers) sooner(delay time.Duration, list []*subscriber, now time.Time) time.Duration {
	for _, sub := range list {
		if wait := max(time.Millisecond, sub.next.Sub(now)-burst); delay == 0 || wait < delay {
			delay = wait
		}
	}
	return delay
}

// tooSlow returns a subscriber that is to be closed.
func (s *subscribers) tooSlow(now time.Time) (worst *subscriber) {
	total := int64(0)
	for _, sub := range s.byID {
		sub.settle(now)
		total += sub.unread
		if worst == nil || sub.unread > worst.unread || sub.unread == worst.unread && sub.id < worst.id {
			worst = sub
		}
	}
	if worst != nil && (worst.unread > s.cfg.Unread || total > s.cfg.TotalUnread) {
		return worst
	}
	return nil
}

// page is frames of consecutive events.
type page struct {
	packed []byte // see appendFrame
	bytes  int    // of the frames
	last   int64  // number of the last event
	more   bool   // there are more events
}

// readPage reads the frames of the events after a position, until they have most bytes. For one
// that is not live, it begins with a frame that says so if events are missing.
func readPage(ctx context.Context, events storage.Events, position int64, live bool, most int) (p page, err error) {
	p.last = position
	if !live {
		oldest, _, err := events.Bounds(ctx)
		if err != nil {
			return page{}, err
		}
		if position+1 < oldest {
			p.append(stream.OutdatedFrame())
		}
	}
	for e, err := range events.Since(ctx, position) {
		if err != nil {
			return page{}, err
		}
		if p.bytes >= most {
			p.more = true
			break
		}
		frame, err := stream.EncodeEvent(e)
		if err != nil {
			return page{}, err
		}
		p.append(frame)
		p.last = e.Seq
	}
	return p, nil
}

func (p *page) append(frame []byte) {
	p.packed = appendFrame(p.packed, frame)
	p.bytes += len(frame)
}
