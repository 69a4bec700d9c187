package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/stream"
)

var (
	passwordOf  = regexp.MustCompile(`(?m)^password +(\S+)`)
	newPassword = regexp.MustCompile(`\b[a-z2-7]{26}\b`)
	didOf       = regexp.MustCompile(`did:plc:[a-z2-7]{24}`)
	recipient   = regexp.MustCompile(`age1[0-9a-z]{20,}`)
	inviteCode  = regexp.MustCompile(`[a-z0-9.-]+-[a-z2-7]{5}-[a-z2-7]{5}`)
)

// Relay follows what the relay passes on, from its beginning.
type Relay struct {
	events chan *commit.Event
	err    chan error
}

func (g *Guide) follow(ctx context.Context) *Relay {
	r := &Relay{events: make(chan *commit.Event, 10_000), err: make(chan error, 1)}
	go func() {
		cursor := int64(0)
		c := &stream.Consumer{URL: "ws://" + relayAddress + "/xrpc/com.atproto.sync.subscribeRepos", Cursor: &cursor}
		for frame, err := range c.Frames(ctx) {
			if err != nil {
				r.err <- err
				return
			}
			if frame.Kind == commit.KindCommit {
				e, err := commit.DecodeEvent(frame.Payload)
				if err != nil {
					r.err <- err
					return
				}
				r.events <- e
			}
		}
	}()
	return r
}

// Sees waits until the relay passes on a post of an account. Whatever else it has passed on before
// is forgotten.
func (r *Relay) Sees(did string) error {
	limit := time.After(2 * time.Minute)
	for {
		select {
		case e := <-r.events:
			if e.Repo != syntax.DID(did) {
				continue
			}
			for _, op := range e.Ops {
				if strings.HasPrefix(op.Path, "app.bsky.feed.post/") {
					return nil
				}
			}
		case err := <-r.err:
			return err
		case <-limit:
			return errors.New("the relay does not see the post")
		}
	}
}

// signIn lets an app in by OAuth, in a browser, and writes a post with it.
func (h *Host) signIn(handle, password string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server := "https://pds." + h.Zone
	// An app and a browser that have just been started have no connections to a server that has ended
	// since: a POST over one of those fails, and nobody may repeat it.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	app := pdstest.LoopbackApp(&http.Client{Transport: transport}, "atproto transition:generic", "http://127.0.0.1/callback")
	login, err := app.PushTo(ctx, server, nil)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	b := pdstest.NewBrowser(transport)
	page, err := b.Consent(login.URL, &pdstest.Account{Handle: syntax.Handle(handle), Password: password}, nil)
	if err != nil {
		return fmt.Errorf("consent: %w", err)
	}
	s, err := login.Finish(ctx, page.URL)
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	record := map[string]any{"$type": "app.bsky.feed.post", "text": "by an app", "createdAt": time.Now().UTC().Format(time.RFC3339)}
	err = s.Procedure(ctx, "com.atproto.repo.createRecord", map[string]any{"repo": s.Tokens().DID, "collection": "app.bsky.feed.post", "record": record}, nil)
	if err != nil {
		return fmt.Errorf("post: %w", err)
	}
	return nil
}

// one returns what an expression finds in a text.
func one(r *regexp.Regexp, text string) (string, error) {
	m := r.FindStringSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("no %s in:\n%s", r, text)
	}
	return m[len(m)-1], nil
}

// get returns what is at an address of the network.
func get(address string) (string, error) {
	res, err := http.Get(address)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", address, res.Status)
	}
	return string(text), err
}
