package command

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// Check checks a PDS that is deployed, as its clients and relays see it. It needs no secrets, and
// changes nothing.
type Check struct {
	// PLC is the address of the did:plc directory. Empty: the public one.
	PLC string
	// HTTP makes all requests. Nil: a client with a time limit.
	HTTP *http.Client
	// DNS looks up TXT records. Nil: the system's resolver.
	DNS identity.DNS
	// Now is the clock that is believed. Nil: time.Now.
	Now func() time.Time
}

// Register implements Command.
func (c *Check) Register(flags *flag.FlagSet) {
	flags.StringVar(&c.PLC, "plc", "", "`address` of the did:plc directory (default: the public one)")
}

// Finding is what a check has found.
type Finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // "ok", "skipped" or "failed"
	Text   string `json:"text"`
	// Remedy is what to do about it.
	Remedy string `json:"remedy,omitempty"`
}

// Run implements Command.
func (c *Check) Run(ctx context.Context, io IO, args []string) error {
	list := c.Check(ctx, args[0])
	failed := 0
	for _, f := range list {
		if f.Status == "failed" {
			failed++
		}
		if !io.JSON {
			fmt.Fprintf(io.Stdout, "%-8s %-10s %s\n", f.Status, f.Check, f.Text)
			if f.Remedy != "" {
				fmt.Fprintf(io.Stdout, "%20s%s\n", "", f.Remedy)
			}
		}
	}
	if io.JSON {
		if err := json.NewEncoder(io.Stdout).Encode(list); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%w: %d of %d checks have failed", ErrProblems, failed, len(list))
	}
	return nil
}

const (
	checkTime = 30 * time.Second // of one check
	maxOffset = 2 * time.Minute  // of the clock
	maxBody   = 1 << 20          // bytes of an answer
	maxBlob   = 100 << 20        // bytes of the blob that is read
)

// errSkip: there is nothing to look at yet.
var errSkip = errors.New("there is no account yet")

// target is the server that is checked.
type target struct {
	*Check
	url, host string
	client    *xrpc.Client
	did       syntax.DID // of the account that is looked at; empty: there is none
}

// Check returns what is found, in the order of what builds on what.
func (c *Check) Check(ctx context.Context, address string) (list []Finding) {
	t := &target{Check: c, url: strings.TrimSuffix(address, "/")}
	if u, err := url.Parse(t.url); err != nil || u.Hostname() == "" || u.Path != "" {
		return []Finding{{"address", "failed", fmt.Sprintf("%.200q is no address of a server", address), "Give it as https://alice.example.com."}}
	} else {
		t.host = u.Hostname()
	}
	if t.HTTP == nil {
		t.Check = &Check{PLC: c.PLC, HTTP: &http.Client{Timeout: checkTime}, DNS: c.DNS, Now: c.Now}
	}
	t.client = &xrpc.Client{Host: t.url, HTTP: t.HTTP}
	for _, x := range []struct {
		name   string
		fn     func(ctx context.Context) (string, error)
		remedy string
	}{
		{"health", t.health, "Look at the log: npx wrangler tail. A missing secret or a wrong variable is named there; set secrets by npx wrangler secret bulk secrets.json."},
		{"server", t.server, "The host name must be in PDS_HOSTNAMES, or be PDS_HOSTNAME, and be a route of this Worker in wrangler.jsonc; PDS_ACCOUNT_OBJECTS must be as it was at the first deployment."},
		{"clock", t.clock, "Set the clock of the machine that runs this check, or find out what stands in front of the Worker."},
		{"oauth", t.oauth, "Let nothing in front of the Worker answer or change paths under /.well-known/ and /oauth/."},
		{"websocket", t.webSocket, "Let nothing in front of the Worker take the Upgrade header away, and no rule of the zone challenge clients: relays are programs."},
		{"account", t.account, "Make the account (pds account create), or move one in (pds worker migrate in). Its DID must name this server."},
		{"handle", t.handle, "The handle must lead to the DID: a TXT record at _atproto.HANDLE, or the host name of the handle as a route of this Worker."},
		{"blob", t.blob, "Look whether the bucket of wrangler.jsonc exists (npx wrangler r2 bucket list) and is bound as BLOBS."},
	} {
		limited, cancel := context.WithTimeout(ctx, checkTime)
		text, err := x.fn(limited)
		cancel()
		switch {
		case errors.Is(err, errSkip):
			list = append(list, Finding{x.name, "skipped", err.Error(), ""})
		case err != nil:
			list = append(list, Finding{x.name, "failed", err.Error(), x.remedy})
		default:
			list = append(list, Finding{x.name, "ok", text, ""})
		}
		if err != nil && x.name == "health" {
			break // the rest would only say it again
		}
	}
	return list
}

// get reads a JSON document.
func (t *target) get(ctx context.Context, path string, out any) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := t.HTTP.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: status %d: %.200q", path, res.StatusCode, text)
	}
	if err := exactjson.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return res, nil
}

func (t *target) health(ctx context.Context) (string, error) {
	var out struct {
		Version string `json:"version"`
	}
	_, err := t.get(ctx, "/xrpc/_health", &out)
	return "version " + out.Version, err
}

func (t *target) server(ctx context.Context) (string, error) {
	out, err := api.ServerDescribeServer(ctx, t.client)
	if err != nil {
		return "", err
	}
	if want := "did:web:" + t.host; string(out.DID) != want {
		return "", fmt.Errorf("the server is %s, not %s", out.DID, want)
	}
	var doc identity.Document
	if _, err := t.get(ctx, "/.well-known/did.json", &doc); err != nil {
		return "", err
	}
	if doc.ID != out.DID {
		return "", fmt.Errorf("its DID document is that of %s", doc.ID)
	}
	return string(out.DID), nil
}

func (t *target) clock(ctx context.Context) (string, error) {
	now := time.Now
	if t.Now != nil {
		now = t.Now
	}
	var out map[string]any
	res, err := t.get(ctx, "/xrpc/_health", &out)
	if err != nil {
		return "", err
	}
	date, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return "", fmt.Errorf("the answer has no Date: %w", err)
	}
	off := date.Sub(now()).Round(time.Second)
	if off.Abs() > maxOffset {
		return "", fmt.Errorf("the server's clock is %s off this machine's", off)
	}
	return fmt.Sprintf("%s off this machine's", off), nil
}

func (t *target) oauth(ctx context.Context) (string, error) {
	var resource struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
	}
	if _, err := t.get(ctx, "/.well-known/oauth-protected-resource", &resource); err != nil {
		return "", err
	}
	if resource.Resource != t.url || len(resource.Servers) != 1 {
		return "", fmt.Errorf("the protected resource is %q, with %d authorization servers", resource.Resource, len(resource.Servers))
	}
	var server struct {
		Issuer string `json:"issuer"`
		PAR    string `json:"pushed_authorization_request_endpoint"`
	}
	if _, err := t.get(ctx, "/.well-known/oauth-authorization-server", &server); err != nil {
		return "", err
	}
	if server.Issuer != resource.Servers[0] || !strings.HasPrefix(server.PAR, t.url+"/") {
		return "", fmt.Errorf("the issuer is %q, its endpoint %q", server.Issuer, server.PAR)
	}
	return "issuer " + server.Issuer, nil
}

// webSocket asks for events of the far future, which the server must refuse in a frame.
func (t *target) webSocket(ctx context.Context) (string, error) {
	cursor := int64(1<<53 - 1)
	lost := errors.New("no frame has come through")
	s := &stream.Consumer{
		URL: t.url + "/xrpc/com.atproto.sync.subscribeRepos", Cursor: &cursor, HTTP: t.HTTP,
		Retry: func(err error) error { return fmt.Errorf("%w: %w", lost, err) },
	}
	for _, err := range s.Frames(ctx) {
		var told *stream.Error
		if errors.As(err, &told) && told.Name == "FutureCursor" {
			return "frames come through", nil
		}
		if err == nil {
			err = lost
		}
		return "", err
	}
	return "", lost
}

// account looks at the first account that is active.
func (t *target) account(ctx context.Context) (string, error) {
	out, err := api.SyncListRepos(ctx, t.client, api.SyncListReposParams{})
	if err != nil {
		return "", err
	}
	var listed api.SyncListReposRepo
	for _, r := range out.Repos {
		if r.Active == nil || *r.Active {
			listed, t.did = r, r.DID
			break
		}
	}
	if t.did == "" {
		return "", errSkip
	}
	// The list may be in another object than the account.
	head, err := api.SyncGetLatestCommit(ctx, t.client, api.SyncGetLatestCommitParams{DID: t.did})
	if err != nil {
		return "", fmt.Errorf("%s is listed, and its repository does not answer: %w", t.did, err)
	}
	if head.Rev < listed.Rev {
		return "", fmt.Errorf("%s is listed at revision %s, and its repository is at %s", t.did, listed.Rev, head.Rev)
	}
	doc, err := t.resolver().ResolveDID(ctx, t.did)
	if err != nil {
		return "", err
	}
	if pds, ok := doc.PDS(); !ok || pds != t.url {
		return "", fmt.Errorf("the document of %s names the server %q", t.did, pds)
	}
	return fmt.Sprintf("%s of %d listed", t.did, len(out.Repos)), nil
}

func (t *target) resolver() *identity.Resolver {
	return &identity.Resolver{PLC: &identity.PLCClient{URL: t.PLC, HTTP: t.HTTP}, HTTP: t.HTTP, DNS: t.DNS, Timeout: checkTime, Development: strings.HasSuffix(t.host, ".test")}
}

func (t *target) handle(ctx context.Context) (string, error) {
	if t.did == "" {
		return "", errSkip
	}
	id, err := t.resolver().Lookup(ctx, syntax.AtIdentifier(t.did))
	if err != nil {
		return "", err
	}
	if id.HandleErr != nil {
		return "", fmt.Errorf("the handle of %s does not lead back to it: %w", t.did, id.HandleErr)
	}
	return string(id.Handle), nil
}

func (t *target) blob(ctx context.Context) (string, error) {
	if t.did == "" {
		return "", errSkip
	}
	out, err := api.SyncListBlobs(ctx, t.client, api.SyncListBlobsParams{DID: t.did})
	if err != nil {
		return "", err
	}
	if len(out.CIDs) == 0 {
		return "", fmt.Errorf("%w: no record has a blob", errSkip)
	}
	return t.read(ctx, string(out.CIDs[0]))
}

// read reads a blob and compares it with its CID.
func (t *target) read(ctx context.Context, name string) (string, error) {
	want, err := cid.Decode(name)
	if err != nil {
		return "", err
	}
	q := url.Values{"did": {string(t.did)}, "cid": {name}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url+"/xrpc/com.atproto.sync.getBlob?"+q.Encode(), nil)
	if err != nil {
		return "", err
	}
	res, err := t.HTTP.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("getBlob: status %d", res.StatusCode)
	}
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(res.Body, maxBlob))
	if err != nil {
		return "", err
	}
	if !bytes.HasSuffix(want.Hash(), hash.Sum(nil)) {
		return "", fmt.Errorf("the bytes of blob %s are others", name)
	}
	return fmt.Sprintf("%d bytes of %s are right", n, name), nil
}
