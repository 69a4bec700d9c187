package provider

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/internal/storedjson"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Lifetimes.
const (
	accessLife = 15 * time.Minute
	// grace is how long what was replaced by a refresh is still good: the access token, and the
	// refresh token for a client that did not get the answer.
	grace = time.Minute
	// challengeKept is how long a code challenge must not come again.
	challengeKept = 24 * time.Hour
)

// lifetimes of a session: without use, and in all.
func (c *client) lifetimes() (idle, total time.Duration) {
	const day = 24 * time.Hour
	if c.Confidential || c.Trusted && !c.Loopback {
		return 90 * day, 730 * day
	}
	return 14 * day, 14 * day
}

// session is a session as it is stored.
type session struct {
	Version     int        `json:"v"`
	Client      string     `json:"client"`
	Auth        clientAuth `json:"auth"`
	JKT         string     `json:"jkt"`
	Scope       string     `json:"scope"`    // as granted
	Expanded    string     `json:"expanded"` // with permission sets replaced, as of the last refresh
	Credentials int64      `json:"credentials"`
	Created     time.Time  `json:"created"`
	Renewed     time.Time  `json:"renewed"`
	Idle        time.Time  `json:"idle"`    // until when it must be renewed
	Expires     time.Time  `json:"expires"` // whatever happens
	// Refresh is the hash of the refresh token's secret. Empty: there is no refresh token.
	Refresh string `json:"refresh,omitempty"`
	// Used are the earlier refresh tokens that are still in their grace period, in order.
	Used []usedToken `json:"used,omitempty"`
	// Token is the access token. Old are the earlier ones that are still in their grace period.
	Token accessToken   `json:"token"`
	Old   []accessToken `json:"old,omitempty"`

	permissions auth.Permissions // of Expanded
}

// usedToken is a refresh token that has a successor: the hash of its secret, and the salt that the
// successor was made with.
type usedToken struct {
	Hash  string    `json:"hash"`
	Salt  string    `json:"salt"`
	Until time.Time `json:"until"`
}

type accessToken struct {
	ID      string `json:"id"`
	Issued  int64  `json:"iat"`
	Expires int64  `json:"exp"` // of an old one: the end of its grace
}

// maxUsed bounds how many tokens are in their grace.
const maxUsed = 20

// errVersion says that a session was stored by a version of this package that is not known, such as
// a later one.
var errVersion = errors.New("provider: a stored session has another version")

func parseSession(doc []byte) (*session, error) {
	x := &session{}
	if err := exactjson.UnmarshalPlain(doc, x); err != nil {
		return nil, err
	}
	if x.Version != version {
		return nil, errVersion
	}
	x.permissions, _ = auth.ParseScopes(x.Expanded)
	return x, nil
}

// session returns a session, which must not be changed, and the text it is stored as.
func (p *Provider) session(ctx context.Context, r storage.KVReader, name string) (*session, []byte, error) {
	doc, err := r.Get(ctx, sessionPrefix+name)
	if err != nil {
		return nil, nil, err
	}
	x, err := p.parse(doc)
	return x, doc, err
}

// parse is parseSession that remembers.
func (p *Provider) parse(doc []byte) (*session, error) { return p.sessions.Of(doc, parseSession) }

// ends is when a session is over if it is not renewed.
func (x *session) ends() time.Time {
	if x.Refresh == "" {
		return time.Unix(x.Token.Expires, 0)
	}
	if x.Idle.Before(x.Expires) {
		return x.Idle
	}
	return x.Expires
}

// write adds a session to a step.
func (x *session) write(step *repo.Step, name string) error {
	doc, err := json.Marshal(x)
	if err != nil {
		return err
	}
	step.Set(sessionPrefix+name, doc, x.ends())
	return nil
}

// accepts reports whether an access token is the session's, or was until a moment ago.
func (x *session) accepts(id string, now time.Time) bool {
	if id == x.Token.ID {
		return true
	}
	return slices.ContainsFunc(x.Old, func(t accessToken) bool { return t.ID == id && now.Unix() < t.Expires })
}

// raised ends all sessions, codes and grants of an account whose credentials change, or carries
// over sessions and grants that are kept. What it does not see is void all the same, since it
// carries another value of the counter.
func raised(ctx context.Context, a account.Account, step *repo.Step, keep account.Kept) error {
	for _, prefix := range []string{sessionPrefix, codePrefix, grantPrefix} {
		for pair, err := range step.Keys(ctx, storage.Prefix(prefix)) {
			if err != nil {
				return err
			}
			if keep.Apps && carryOver(step, prefix, pair, a.Credentials) {
				step.Expect(pair.Key, pair.Value)
			} else {
				step.Remove(pair.Key)
			}
		}
	}
	return nil
}

// carryOver adds to a step that a session or grant is good under the next value of the counter, if
// it was under the one before.
func carryOver(step *repo.Step, prefix string, pair storage.KVPair, credentials int64) bool {
	switch prefix {
	case sessionPrefix:
		x, err := parseSession(pair.Value)
		if err != nil || x.Credentials != credentials-1 {
			return false
		}
		x.Credentials = credentials
		return x.write(step, strings.TrimPrefix(pair.Key, sessionPrefix)) == nil
	case grantPrefix:
		var g grant
		if exactjson.UnmarshalPlain(pair.Value, &g) != nil || g.Version != version || g.Credentials != credentials-1 {
			return false
		}
		g.Credentials = credentials
		doc, err := json.Marshal(g)
		if err != nil {
			return false
		}
		step.Set(pair.Key, doc, pair.Expires)
		return true
	}
	return false
}

// maxSessions bounds the sessions of one account: beyond it, those that were renewed the longest
// ago end.
const maxSessions = 500

// makeRoom adds to a step the end of old sessions, so that there is room for a new one.
func (p *Provider) makeRoom(ctx context.Context, step *repo.Step) error {
	var list []storedSession
	for x, err := range stored(ctx, step, p.parse) {
		if err != nil {
			return err
		}
		list = append(list, x)
	}
	if len(list) < maxSessions {
		return nil
	}
	slices.SortFunc(list, func(a, b storedSession) int { return a.Renewed.Compare(b.Renewed) })
	for _, x := range list[:len(list)-maxSessions+1] {
		step.Remove(x.key)
	}
	return nil
}

// grant is what an account has granted to an app, as it is stored.
type grant struct {
	Version     int       `json:"v"`
	Client      string    `json:"client"`
	Scope       string    `json:"scope"`
	Credentials int64     `json:"credentials"`
	At          time.Time `json:"at"`
	// Public is set if it was granted to a client that any app can impersonate. Then it only
	// records that the account has granted something before, and gives no scopes without consent.
	Public bool `json:"public,omitempty"`
}

// maxGrants bounds the grants of one account, which stay when sessions end: beyond it, the oldest are
// forgotten, so that their apps have to ask again.
const maxGrants = 500

// forgetGrants adds to a step the end of old grants, so that there is room for a new one.
func forgetGrants(ctx context.Context, step *repo.Step) error {
	keys, err := storedjson.Surplus(ctx, step, grantPrefix, maxGrants, func(a, b grant) int { return a.At.Compare(b.At) })
	for _, key := range keys {
		step.Remove(key)
	}
	return err
}

// granted returns what an account has granted to a client before.
func (p *Provider) granted(ctx context.Context, a account.Account, clientID string) (known auth.Permissions, ok bool, err error) {
	err = p.accounts.View(ctx, account.Trusted(a.DID), func(a account.Account, r storage.KVReader) error {
		g, err := readGrant(ctx, r, clientID)
		if err == nil && g != nil && g.Credentials == a.Credentials && !g.Public {
			known, _ = auth.ParseScopes(g.Scope)
			ok = true
		}
		return err
	})
	return known, ok, err
}

func readGrant(ctx context.Context, r storage.KVReader, clientID string) (*grant, error) {
	doc, err := r.Get(ctx, grantPrefix+digest.Hash(clientID))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	g := &grant{}
	if err := exactjson.UnmarshalPlain(doc, g); err != nil {
		return nil, err
	}
	if g.Version != version || g.Client != clientID {
		return nil, nil
	}
	return g, nil
}

// remember adds to a step what an account has granted, and returns what of it is new. What was
// asked for and not granted is forgotten; what was granted before and not asked for this time
// stays.
func remember(ctx context.Context, step *repo.Step, a account.Account, c client, asked, granted auth.Permissions, now time.Time) (news []auth.Scope, err error) {
	public := !c.remembers()
	before, err := readGrant(ctx, step, c.id)
	if err != nil {
		return nil, err
	}
	all, known := granted, auth.Permissions{}
	if before != nil && before.Credentials == a.Credentials {
		known, _ = auth.ParseScopes(before.Scope)
	}
	if before != nil && before.Credentials == a.Credentials && before.Public == public {
		all = all.With(known.Select(func(s auth.Scope) bool { return !asked.Has(s.String()) }))
	}
	for _, s := range granted.Scopes() {
		if !known.Has(s.String()) {
			news = append(news, s)
		}
	}
	if before == nil {
		if err := forgetGrants(ctx, step); err != nil {
			return nil, err
		}
	}
	doc, err := json.Marshal(grant{version, c.id, all.String(), a.Credentials, now, public})
	if err != nil {
		return nil, err
	}
	step.Set(grantPrefix+digest.Hash(c.id), doc, time.Time{})
	return news, nil
}
