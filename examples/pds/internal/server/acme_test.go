package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/certs"
	"github.com/pdskit/pdskit/examples/pds/internal/certs/acmetest"
	"github.com/pdskit/pdskit/examples/pds/internal/update"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/xrpc/doctor"
)

// acmeServer starts a server that gets its own certificates.
func acmeServer(t *testing.T, directory string, log *buffer) *Server {
	t.Helper()
	s, err := Start(t.Context(), testConfig(t, map[string]string{
		"PDS_HOSTNAME": "pds.site.test", "PDS_BIND_ADDRESS": "127.0.0.1", "PDS_TLS_ACME": "true", "PDS_HTTP_PORT": "0", "PDS_ACME_DIRECTORY_URL": directory,
		"PDS_DID_PLC_URL": "http://localhost:1", "PDS_DEV_MODE": "false",
	}), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(context.Background()) })
	return s
}

func measured(s *Server) string {
	var b bytes.Buffer
	s.meters.registry.Write(&b)
	return b.String()
}

// found is what the check of certificates finds.
func found(t *testing.T, s *Server) doctor.Finding {
	t.Helper()
	for _, c := range s.doctor.Checks {
		if c.Name == "acme" {
			return doctor.Run(t.Context(), []doctor.Check{c}).Findings[0]
		}
	}
	t.Fatal("there is no such check")
	return doctor.Finding{}
}

// A server that gets its own certificates has one before anybody comes. The log, the metrics and the doctor
// say until when.
func TestServerGetsItsCertificate(t *testing.T) {
	var address string
	ready := make(chan struct{})
	authority := acmetest.New(t, func(string) string { <-ready; return address })
	var log buffer
	s := acmeServer(t, authority.URL, &log)
	if f := found(t, s); f.Level == doctor.Problem {
		t.Errorf("%+v", f)
	}
	address = s.listener.Addr().String()
	close(ready)
	testenv.Until(t, "certificate", func() bool {
		return strings.Contains(measured(s), `pds_certificate_requests_total{result="obtained"} 1`)
	})
	if text := measured(s); !strings.Contains(text, `pds_certificate_expiry_timestamp_seconds{name="pds.site.test"} 1`) {
		t.Error(text)
	}
	if !strings.Contains(log.String(), "certificate obtained") {
		t.Error(log.String())
	}
	testenv.Until(t, "good finding", func() bool { return found(t, s).Level == doctor.OK })
	roots := x509.NewCertPool()
	roots.AddCert(authority.Root)
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: "pds.site.test", RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if n := authority.Orders(); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// A server that gets no certificate serves on, and says why in its log, its metrics and to the doctor.
func TestServerWithoutCertificate(t *testing.T) {
	authority := acmetest.New(t, func(string) string { return "" })
	var log buffer
	s := acmeServer(t, authority.URL, &log)
	testenv.Until(t, "failure", func() bool { return strings.Contains(measured(s), `pds_certificate_requests_total{result="failed"} 1`) })
	if !strings.Contains(log.String(), "no route to host") {
		t.Error(log.String())
	}
	f := found(t, s)
	if f.Level != doctor.Problem || !strings.Contains(f.Text, "no route to host") || !strings.Contains(f.Remedy, "443") {
		t.Errorf("%+v", f)
	}
	s.meters.certificate("pds.site.test", certs.Event{Kind: certs.Renewed, Name: "alice.pds.site.test", Expires: time.Unix(2e9, 0)})
	if text := measured(s); strings.Contains(text, "alice") {
		t.Error("a label for each account")
	}
}

// Who asks for it is told of a newer version, in the log and by the doctor; others ask nobody.
func TestUpdateNotice(t *testing.T) {
	asked := make(chan bool, 10)
	feed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- true
		fmt.Fprint(w, `{"tag_name":"v99.0.0","html_url":"https://example.com/v99"}`)
	}))
	defer feed.Close()
	var log buffer
	s, err := Start(t.Context(), testConfig(t, map[string]string{"PDS_UPDATE_CHECK": feed.URL}), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown(context.Background())
	<-asked
	testenv.Until(t, "line in the log", func() bool { return strings.Contains(log.String(), "there is a newer version") })
	report, err := s.doctor.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(report.Findings, func(f doctor.Finding) bool { return f.Check == "update" }); i < 0 || report.Findings[i].Level != doctor.Warning ||
		!strings.Contains(report.Findings[i].Text, "version 99.0.0 is out") || !strings.Contains(report.Findings[i].Text, "https://example.com/v99") {
		t.Errorf("%+v", report.Findings)
	}
	if cfg := testConfig(t, nil); cfg.UpdateFeed != "" {
		t.Error("it asks without being told to")
	}
	if cfg := testConfig(t, map[string]string{"PDS_UPDATE_CHECK": "true"}); cfg.UpdateFeed != update.Feed {
		t.Error(cfg.UpdateFeed)
	}
}
