package doctor

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// EchoPath is the path of an Echo.
const EchoPath = "/.well-known/pdskit-doctor"

const (
	echoHeader = "Pdskit-Doctor"
	echoTime   = time.Minute // for which a question is good
	maxEcho    = 4 << 10     // bytes of an answer
	// forged is an address that is nobody's (RFC 5737), which a question pretends to come from.
	forged = "192.0.2.77"
)

// Echo shows, to callers that have the key, the addresses that it sees of a request, and proves
// that it is the server with the key. So a check can find out whether requests to the public URL
// arrive here, and whether the reverse proxies pass on the client's address. Requests of other
// callers are served by Next, as if there were no Echo. It must come before handlers that change
// the address of requests.
type Echo struct {
	Key     []byte
	Proxies limit.Proxies
	Next    http.Handler
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// echo is the answer.
type echo struct {
	Peer      string   `json:"peer"`   // the other end of the connection
	Client    string   `json:"client"` // who is believed to have sent the request
	Forwarded []string `json:"forwarded"`
	Proof     string   `json:"proof"`
}

func mac(key []byte, parts ...string) string {
	h := hmac.New(sha256.New, key)
	io.WriteString(h, strings.Join(parts, "\n"))
	return hex.EncodeToString(h.Sum(nil))
}

// ServeHTTP implements http.Handler.
func (e *Echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := r.Header.Get(echoHeader)
	if r.URL.Path != EchoPath || token == "" || !e.good(token) {
		e.Next.ServeHTTP(w, r)
		return
	}
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	answer := echo{Peer: peer.Addr().Unmap().String(), Client: e.Proxies.ClientAddr(r).String(), Forwarded: r.Header["X-Forwarded-For"], Proof: mac(e.Key, "answer", token)}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(answer)
}

// good reports whether a token was made with the key, a short time ago.
func (e *Echo) good(token string) bool {
	now := time.Now
	if e.Now != nil {
		now = e.Now
	}
	at, sum, ok := strings.Cut(token, ".")
	if !ok || len(e.Key) == 0 || !hmac.Equal([]byte(sum), []byte(mac(e.Key, "question", at))) {
		return false
	}
	sec, err := strconv.ParseInt(at, 10, 64)
	age := now().Sub(time.Unix(sec, 0))
	return err == nil && age < echoTime && age > -echoTime
}

// Forwarded returns the check "forwarded": whether requests to the public URL arrive at the server
// with this key (see [Echo]), and whether the server learns the client's address.
func (t Target) Forwarded(key []byte) Check {
	return Check{Name: "forwarded", Run: func(ctx context.Context) []Finding {
		at := strconv.FormatInt(t.now().Unix(), 10)
		token := at + "." + mac(key, "question", at)
		resp, err := t.get(ctx, EchoPath, http.Header{echoHeader: {token}, "X-Forwarded-For": {forged}})
		if err != nil {
			return []Finding{silent(t.URL)}
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxEcho))
		var a echo
		if err != nil || resp.StatusCode != http.StatusOK || exactjson.UnmarshalPlain(body, &a) != nil || a.Proof != mac(key, "answer", token) {
			return []Finding{Bad("see where the name leads (the check of DNS) and which server the proxy passes requests on to; if the server was not restarted since it was upgraded, do that",
				"another server answers at %s, or an older one (status %d)", t.URL, resp.StatusCode)}
		}
		return []Finding{a.judge(t.Direct)}
	}}
}

// judge says what the addresses of an answer mean.
func (a echo) judge(direct bool) Finding {
	const share = "; all users share one rate limit until then"
	chain := strings.Split(strings.ReplaceAll(strings.Join(a.Forwarded, ","), " ", ""), ",")
	last := chain[len(chain)-1]
	switch {
	case direct && last == forged:
		return Good("the server learns its clients' addresses: there is no proxy between (this request came from %s)", a.Peer)
	case len(a.Forwarded) == 0:
		return Warn("let the proxy set X-Forwarded-For to the address of its client (see deploy/nginx.conf)"+share, "the proxy at %s does not tell from whom requests are", a.Peer)
	case a.Client == forged && last != forged:
		// What follows the forged address is trusted: this machine calls itself.
		return Good("the server learns its clients' addresses (this request came from %s, which is trusted as a proxy)", last)
	case a.Client == forged:
		return Bad("let the proxy set X-Forwarded-For to the address of its client, and not pass on what the client has sent: anybody can pretend to be anybody, and guess passwords without limit",
			"the proxy at %s passes X-Forwarded-For on as strangers send it", a.Peer)
	case last == forged && a.Client == a.Peer:
		// Nobody has added an address: there is no proxy between, and the header is not believed.
		return Good("the server learns its clients' addresses: there is no proxy between (this request came from %s)", a.Client)
	case a.Client == a.Peer:
		return Warn("put "+a.Peer+" into PDS_TRUSTED_PROXIES"+share, "the proxy at %s tells from whom requests are (%s), but is not believed", a.Peer, last)
	}
	return Good("the server learns its clients' addresses (this request came from %s)", a.Client)
}
