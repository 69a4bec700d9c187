package source

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"unicode"

	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// Where the profile is.
const (
	profileCollection syntax.NSID      = "app.bsky.actor.profile"
	profileKey        syntax.RecordKey = "self"
)

// lookUp finds out what an account is called now.
func (n *Network) lookUp(ctx context.Context, did syntax.DID) error {
	who, err := n.Resolver.Lookup(ctx, syntax.AtIdentifier(did))
	if err != nil {
		return err
	}
	p := index.Person{DID: did}
	if who.Handle != syntax.InvalidHandle {
		p.Handle = who.Handle
	}
	host, ok := who.Document.PDS()
	if !ok {
		return n.Index.LookedUp(ctx, p, "")
	}
	c := &xrpc.Client{Host: host, HTTP: n.Strangers, Retries: -1, MaxBody: 256 << 10}
	out, err := api.RepoGetRecord(ctx, c, api.RepoGetRecordParams{Repo: syntax.AtIdentifier(did), Collection: profileCollection, RKey: profileKey})
	var xerr *xrpc.Error
	switch {
	case errors.As(err, &xerr) && xerr.Status >= 400 && xerr.Status < 500 && xerr.Status != http.StatusTooManyRequests:
		// There is no profile.
	case err != nil:
		old, readErr := n.Index.Person(ctx, did)
		if readErr != nil {
			return readErr
		}
		p.Name = old.Name
		return errors.Join(err, n.Index.Renamed(ctx, p))
	default:
		var profile profile
		if out.Value.Into(&profile) == nil {
			p.Name = clean(profile.DisplayName)
		}
	}
	return n.Index.LookedUp(ctx, p, host)
}

// profile is what is read of a profile.
type profile struct {
	DisplayName string `json:"displayName" cbor:"displayName"`
}

// displayName returns the name in a profile record. It is empty if there is none.
func displayName(record []byte) string {
	var p profile
	if record == nil || data.Unmarshal(record, &p) != nil {
		return ""
	}
	return clean(p.DisplayName)
}

// maxName is the length of a name, in code points.
const maxName = 64

// clean takes from a name what could disturb the page around it: control characters, marks of
// direction, line breaks, heaps of accents, and length.
func clean(name string) string {
	var b strings.Builder
	length, marks := 0, 0
	for _, r := range strings.ToValidUTF8(name, "") {
		switch {
		case unicode.IsSpace(r):
			r = ' '
		case unicode.Is(unicode.Cc, r), unicode.Is(unicode.Bidi_Control, r):
			continue
		}
		if marks++; !unicode.In(r, unicode.Mn, unicode.Me) {
			marks = 0
		}
		if marks > 3 {
			continue
		}
		if length++; length > 4*maxName { // a bound for the work, with room for spaces
			break
		}
		b.WriteRune(r)
	}
	text := []rune(strings.Join(strings.Fields(b.String()), " "))
	return strings.TrimSpace(string(text[:min(len(text), maxName)]))
}
