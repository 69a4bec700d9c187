package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	mail "github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/pds"
)

// stuck is a mail server that does not answer.
type stuck struct{ came, goOn chan struct{} }

func (m stuck) Send(context.Context, mail.Mail) error {
	m.came <- struct{}{}
	<-m.goOn
	return nil
}

// A mail server that does not answer takes no time from requests that are under way when the server ends.
func TestShutdownWhileMailIsStuck(t *testing.T) {
	m := stuck{make(chan struct{}, 1), make(chan struct{})}
	slow := stuck{make(chan struct{}, 1), make(chan struct{})}
	s, err := start(t.Context(), testConfig(t, nil), slog.New(slog.DiscardHandler), changes{
		config: func(c *pds.Config) { c.Mailer = m },
		server: func(p *pds.Server) {
			p.Mux.HandleFunc("GET /slow", func(http.ResponseWriter, *http.Request) { _ = slow.Send(t.Context(), mail.Mail{}) })
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.pds.Mail.Send(t.Context(), mail.Mail{Kind: mail.Plain, To: "a@example.com", Text: "x"}); err != nil {
		t.Fatal(err)
	}
	<-m.came
	answered := make(chan error, 1)
	go func() {
		res, err := http.Get(s.url + "/slow")
		if err == nil {
			res.Body.Close()
		}
		answered <- err
	}()
	<-slow.came
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	address := s.listener.Addr().String()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(end) {
			t.Error("the server takes connections until its mail is sent")
			break
		}
	}
	close(slow.goOn)
	if err := <-answered; err != nil {
		t.Errorf("a request that was under way: %v", err)
	}
	close(m.goOn)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
