package relay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// Ban is a host or domain that the relay does not follow, including all hosts below it.
type Ban struct {
	Name   string    `json:"name"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

func (h *host) isRelay() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.row.Relay
}

// local reports whether the host is one of the same process.
func (h *host) local() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.row.Local
}

// AddHost follows a host, from the saved cursor or else from the oldest message of the host. It
// does not check the host first; use RequestCrawl for hosts named by untrusted input. If the host
// is known, it is connected to at once. Errors are ErrHostname, ErrBanned and those of the store.
func (r *Relay) AddHost(ctx context.Context, name string) error { return r.add(ctx, name, false) }

// AddRelay follows another relay, which may deliver accounts of any host. Its commits must be
// signed and new. Its #identity and #account messages, which nobody signs, must be newer than the
// last ones. So the relay is trusted with the status of accounts, except accounts of hosts that are
// followed directly.
func (r *Relay) AddRelay(ctx context.Context, name string) error { return r.add(ctx, name, true) }

// admitted returns the name of a host that may be followed.
func (r *Relay) admitted(ctx context.Context, text string) (name string, err error) {
	if err := r.load(ctx); err != nil {
		return "", err
	}
	if name, err = r.parseHost(text); err != nil {
		return "", err
	}
	if ban := r.banned(name); ban != nil {
		return "", fmt.Errorf("%w: %s", ErrBanned, ban.Name)
	}
	return name, nil
}

func (r *Relay) add(ctx context.Context, text string, relay bool) error {
	name, err := r.admitted(ctx, text)
	if err != nil {
		return err
	}
	_, err = r.put(ctx, name, func(row *hostRow) { row.Relay, row.Local = relay, false }, nil)
	return err
}

// AddLocal follows a host in the same process through its store: the log for events, and the heads
// for repairs. Messages are checked like those of any other host; in particular, the DID documents
// of its accounts must name it. The store is not remembered over a restart, so call AddLocal at
// each start. If the host is already followed, reading continues from the store at the saved
// cursor. AddHost undoes this.
func (r *Relay) AddLocal(ctx context.Context, name string, store storage.Store) error {
	if store.Events == nil || store.Repos == nil {
		return errors.New("relay: a local host needs Events and Repos")
	}
	if err := r.load(ctx); err != nil {
		return err
	}
	name = strings.ToLower(name)
	if name == "" || strings.ContainsAny(name, "/ ") {
		return fmt.Errorf("%w: %.260q", ErrHostname, name)
	}
	if ban := r.banned(name); ban != nil {
		return fmt.Errorf("%w: %s", ErrBanned, ban.Name)
	}
	_, err := r.put(ctx, name, func(row *hostRow) { row.Local, row.Relay = true, false }, &store)
	return err
}

// put stores a host, new or not, and starts it.
func (r *Relay) put(ctx context.Context, name string, change func(*hostRow), store *storage.Store) (added bool, err error) {
	r.settings.Lock()
	defer r.settings.Unlock()
	var row hostRow
	err = r.ledger.write(ctx, func(tx storage.KVTx) error {
		row = hostRow{}
		found, err := get(ctx, tx, keyHost+name, &row)
		if err != nil {
			return err
		}
		if added = !found; added {
			row.Added = r.Now().UTC()
		}
		change(&row)
		return set(ctx, tx, keyHost+name, row)
	})
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hosts[name]
	if h == nil {
		h = newHost(r, name, row)
		r.hosts[name] = h
	} else {
		h.mu.Lock()
		row.count = h.row.count
		h.row = row
		h.mu.Unlock()
	}
	h.setStore(store, row.Local)
	r.startLocked(h)
	h.retry()
	return added, nil
}

// setStore says where the host is read. If it was read in the other way, that ends.
func (h *host) setStore(store *storage.Store, local bool) {
	before := h.store.Load()
	if local && store == nil {
		store = before
	}
	h.store.Store(store)
	if (before == nil) != (store == nil) {
		h.disconnect()
	}
}

// disconnect ends the connection to the host, if there is one. The next one follows.
func (h *host) disconnect() {
	h.mu.Lock()
	leave := h.endConnection
	h.mu.Unlock()
	if leave != nil {
		leave()
	}
}

// known returns a host, or ErrNoHost.
func (r *Relay) known(ctx context.Context, name string) (*host, error) {
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	h := r.host(strings.ToLower(name))
	if h == nil {
		return nil, fmt.Errorf("%w: %.260q", ErrNoHost, name)
	}
	return h, nil
}

// Host returns the state of a host, or ErrNoHost.
func (r *Relay) Host(ctx context.Context, name string) (Host, error) {
	h, err := r.known(ctx, name)
	if err != nil {
		return Host{}, err
	}
	return h.info(), nil
}

// Hosts returns up to limit hosts with names greater than after, in the order of names.
func (r *Relay) Hosts(ctx context.Context, after string, limit int) ([]Host, error) {
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	var list []*host
	for name, h := range r.hosts {
		if name > after {
			list = append(list, h)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(list, func(a, b *host) int { return cmp.Compare(a.name, b.name) })
	list = list[:max(0, min(len(list), limit))]
	out := make([]Host, len(list))
	for i, h := range list {
		out[i] = h.info()
	}
	return out, nil
}

// SetPolicy sets a host's own policy; nil removes it.
func (r *Relay) SetPolicy(ctx context.Context, name string, p *Policy) error {
	if p != nil {
		if err := p.check(); err != nil {
			return err
		}
		own := *p // the caller may change theirs
		p = &own
	}
	return r.configure(ctx, name, func(row *hostRow) { row.Policy = p })
}

// SetLimits sets a host's own limits; nil removes them. If the limit on accounts rises, throttled
// accounts are caught up.
func (r *Relay) SetLimits(ctx context.Context, name string, l *Limits) error {
	if l != nil {
		own := *l // the caller may change theirs
		l = &own
	}
	if err := r.configure(ctx, name, func(row *hostRow) { row.Limits = l }); err != nil {
		return err
	}
	h, err := r.known(ctx, name)
	if err != nil {
		return err
	}
	return r.catchUp(ctx, h)
}

func (r *Relay) configure(ctx context.Context, name string, change func(*hostRow)) error {
	h, err := r.known(ctx, name)
	if err == nil {
		_, err = r.put(ctx, h.name, change, nil)
	}
	return err
}

// Reconnect connects to a host at once instead of waiting for the next attempt.
func (r *Relay) Reconnect(ctx context.Context, name string) error {
	h, err := r.known(ctx, name)
	if err != nil {
		return err
	}
	h.disconnect()
	h.retry()
	return nil
}

// ResetCursor reads a host again from its oldest message, and compares all its repositories. Use it
// when the host's log has begun anew. See ResetAfter for when the relay does this by itself.
func (r *Relay) ResetCursor(ctx context.Context, name string) error {
	h, err := r.known(ctx, name)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.fromOldest = true
	h.mu.Unlock()
	if err := r.Reconnect(ctx, name); err != nil {
		return err
	}
	return r.Compare(ctx, name)
}

// Compare compares all repositories of a host with the host's list, and repairs those that differ.
// It runs in the background; after a restart it continues.
func (r *Relay) Compare(ctx context.Context, name string) error {
	h, err := r.known(ctx, name)
	if err != nil {
		return err
	}
	return h.compare(ctx)
}

// Ban bans a host or a domain. The host, and all hosts below it, are no longer followed, and
// messages about their accounts from relays are not passed on. What was already passed on stays.
func (r *Relay) Ban(ctx context.Context, name, reason string) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	name = strings.ToLower(strings.Trim(name, "."))
	if name == "" || strings.ContainsAny(name, "/ ") || len(name) > 260 {
		return fmt.Errorf("%w: %.260q", ErrHostname, name)
	}
	r.settings.Lock()
	defer r.settings.Unlock()
	ban := Ban{Name: name, Reason: reason, At: r.Now().UTC()}
	text, err := json.Marshal(ban)
	if err == nil {
		err = r.ledger.mark(ctx, map[string][]byte{keyBan + name: text})
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bans[name] = ban
	for _, h := range r.hosts {
		if h.started && inDomain(h.name, name) {
			h.stop()
		}
	}
	return nil
}

// Unban ends a ban. Hosts that were followed before it are followed again.
func (r *Relay) Unban(ctx context.Context, name string) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	name = strings.ToLower(strings.Trim(name, "."))
	r.settings.Lock()
	defer r.settings.Unlock()
	if err := r.ledger.unmark(ctx, keyBan+name); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.bans, name)
	for _, h := range r.hosts {
		r.startLocked(h)
	}
	return nil
}

// Bans returns all bans, sorted by name.
func (r *Relay) Bans(ctx context.Context) ([]Ban, error) {
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Ban, 0, len(r.bans))
	for _, b := range r.bans {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b Ban) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// banned returns the ban that a host is under, or nil.
func (r *Relay) banned(name string) *Ban {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bannedLocked(name)
}

func (r *Relay) bannedLocked(name string) *Ban {
	for {
		if b, ok := r.bans[name]; ok {
			return &b
		}
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			return nil
		}
		name = rest
	}
}

// saveCursors stores the cursors that have moved.
func (r *Relay) saveCursors(ctx context.Context) error {
	r.mu.Lock()
	hosts := make([]*host, 0, len(r.hosts))
	for _, h := range r.hosts {
		hosts = append(hosts, h)
	}
	r.mu.Unlock()
	moved := make(map[string]int64)
	for _, h := range hosts {
		seq, _ := h.queue.position()
		h.mu.Lock()
		if seq != h.saved {
			moved[h.name] = seq
		}
		h.mu.Unlock()
	}
	if len(moved) == 0 {
		return nil
	}
	if err := r.ledger.saveCursors(ctx, moved); err != nil {
		return err
	}
	for _, h := range hosts {
		if seq, ok := moved[h.name]; ok {
			h.mu.Lock()
			h.saved = seq
			h.mu.Unlock()
		}
	}
	return nil
}

// ErrTooMany: the limit on new hosts for today is reached.
var ErrTooMany = errors.New("relay: too many new hosts today")

// ErrNoServer: the host does not answer like a PDS.
var ErrNoServer = errors.New("relay: the host does not answer as a PDS")

// RequestCrawl is AddHost for hosts named by untrusted input. The host must answer like a PDS and
// must not be a relay, and the number of new hosts a day is limited. Errors are those of AddHost,
// ErrNoServer, ErrLoop and ErrTooMany.
func (r *Relay) RequestCrawl(ctx context.Context, text string) error {
	name, err := r.admitted(ctx, text)
	if err != nil {
		return err
	}
	if h := r.host(name); h != nil {
		h.retry() // the kind of host stays
		return nil
	}
	if err := r.probe(ctx, name); err != nil {
		return err
	}
	if err := r.countNew(ctx); err != nil {
		return err
	}
	return r.AddHost(ctx, name)
}

// probeTimeout bounds the question whether a host is one.
const probeTimeout = 5 * time.Second

// probe asks a host whether it is a PDS.
func (r *Relay) probe(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	resp, err := r.get(ctx, name, api.ServerDescribeServerNSID, url.Values{})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	defer resp.Body.Close()
	if err := r.mayFollow(&host{r: r, name: name}, resp.Header); err != nil {
		return err
	}
	var answer struct {
		DID syntax.DID `json:"did"`
	}
	if err := readAnswer(resp, &answer); err != nil {
		return fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	if _, err := syntax.ParseDID(string(answer.DID)); err != nil {
		return fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	return nil
}

// countNew counts a new host of today.
func (r *Relay) countNew(ctx context.Context) error {
	if r.NewHostsPerDay < 0 {
		return nil
	}
	now := r.Now().UTC()
	key := keyNew + now.Format(time.DateOnly)
	most := map[string]int{key: r.NewHostsPerDay}
	if network := limit.ClientOf(ctx).Network; network.IsValid() && r.NewHostsPerNetwork >= 0 {
		most[key+"/"+strings.ReplaceAll(network.String(), "/", "-")] = r.NewHostsPerNetwork
	}
	return r.ledger.write(ctx, func(tx storage.KVTx) error {
		for key, most := range most {
			n := 0
			if _, err := get(ctx, tx, key, &n); err != nil {
				return err
			}
			if n >= most {
				return ErrTooMany
			}
			if err := tx.Set(ctx, key, strconv.AppendInt(nil, int64(n+1), 10), now.Add(48*time.Hour)); err != nil {
				return err
			}
		}
		return nil
	})
}
