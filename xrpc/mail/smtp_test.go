package mail

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// smtpServer is an SMTP server on loopback that keeps what it gets.
type smtpServer struct {
	cert     tls.Certificate
	pool     *x509.CertPool
	listener net.Listener
	implicit bool
	startTLS bool
	auth     string // the mechanisms that it offers
	refuse   string // answers to RCPT, if set

	mu     sync.Mutex
	got    []delivery
	probes []delivery // that ended before a message
}

// delivery is what the server got in one transaction.
type delivery struct {
	TLS        bool
	Hello      string
	Auth       string
	From       string
	Recipients []string
	Data       string
}

func startSMTP(t *testing.T, s *smtpServer) *smtpServer {
	t.Helper()
	s.makeCertificate(t)
	var err error
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if s.implicit {
		s.listener = tls.NewListener(s.listener, s.config())
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() { s.listener.Close(); all.Wait() })
	return s
}

func (s *smtpServer) config() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{s.cert}}
}

func (s *smtpServer) makeCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	leaf, _ := x509.ParseCertificate(der)
	s.pool = x509.NewCertPool()
	s.pool.AddCert(leaf)
}

func (s *smtpServer) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	r := bufio.NewReader(conn)
	say := func(format string, args ...any) { fmt.Fprintf(conn, format+"\r\n", args...) }
	read := func() (string, bool) {
		l, err := r.ReadString('\n')
		return strings.TrimRight(l, "\r\n"), err == nil
	}
	decode := func(text string) string {
		b, _ := base64.StdEncoding.DecodeString(text)
		return string(b)
	}
	d := delivery{TLS: s.implicit}
	say("220 test")
	for {
		l, ok := read()
		if !ok {
			return
		}
		verb, rest, _ := strings.Cut(l, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			d.Hello = rest
			say("250-test")
			if s.startTLS && !d.TLS {
				say("250-STARTTLS")
			}
			if s.auth != "" {
				say("250-AUTH %s", s.auth)
			}
			say("250 SMTPUTF8")
		case "STARTTLS":
			say("220 go")
			secure := tls.Server(conn, s.config())
			if secure.Handshake() != nil {
				return
			}
			conn, d.TLS = secure, true
			r.Reset(conn)
		case "AUTH":
			mechanism, initial, _ := strings.Cut(rest, " ")
			switch mechanism {
			case "PLAIN":
				d.Auth = strings.ReplaceAll(decode(initial), "\x00", "|")
			case "LOGIN":
				say("334 VXNlcm5hbWU6")
				user, _ := read()
				say("334 UGFzc3dvcmQ6")
				password, _ := read()
				d.Auth = decode(user) + "/" + decode(password)
			}
			say("235 in")
		case "MAIL":
			d.From = rest
			say("250 ok")
		case "RCPT":
			if s.refuse != "" {
				say("%s", s.refuse)
				continue
			}
			d.Recipients = append(d.Recipients, rest)
			say("250 ok")
		case "DATA":
			say("354 go")
			for {
				l, ok := read()
				if !ok {
					return
				}
				if l == "." {
					break
				}
				d.Data += strings.TrimPrefix(l, ".") + "\r\n"
			}
			s.mu.Lock()
			s.got = append(s.got, d)
			s.mu.Unlock()
			say("250 kept")
		case "RSET":
			s.mu.Lock()
			s.probes = append(s.probes, d)
			s.mu.Unlock()
			say("250 ok")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("500 what?")
		}
	}
}

func (s *smtpServer) deliveries() []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got
}

// client returns a sender to the server that trusts its certificate.
func (s *smtpServer) client(t *testing.T, user string) *smtpSender {
	t.Helper()
	scheme := "smtp"
	if s.implicit {
		scheme = "smtps"
	}
	sender, err := New(Config{URL: scheme + "://" + user + s.listener.Addr().String(), From: "Der Bär <pds@example.test>"})
	if err != nil {
		t.Fatal(err)
	}
	c := sender.(*smtpSender)
	c.tls.RootCAs = s.pool
	return c
}

func TestSMTP(t *testing.T) {
	for name, c := range map[string]struct {
		server *smtpServer
		user   string
		auth   string
		tls    bool
	}{
		"plain":          {server: &smtpServer{}},
		"STARTTLS":       {server: &smtpServer{startTLS: true}, tls: true},
		"STARTTLS, auth": {server: &smtpServer{startTLS: true, auth: "PLAIN LOGIN"}, user: "me%40x:p%20w@", auth: "|me@x|p w", tls: true},
		"TLS, LOGIN":     {server: &smtpServer{implicit: true, auth: "LOGIN"}, user: "me:pw@", auth: "me/pw", tls: true},
	} {
		t.Run(name, func(t *testing.T) {
			server := startSMTP(t, c.server)
			m := Message{To: "anna@x.test", Subject: "Ihr Schlüssel", Text: "Grüße,\n.\n" + strings.Repeat("lang ", 100) + "\n"}
			if err := server.client(t, c.user).Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			got := server.deliveries()
			if len(got) != 1 {
				t.Fatalf("%d deliveries", len(got))
			}
			d := got[0]
			data := d.Data
			d.Data = ""
			want := delivery{TLS: c.tls, Hello: "example.test", Auth: c.auth, From: "FROM:<pds@example.test>", Recipients: []string{"TO:<anna@x.test>"}}
			d.From, _, _ = strings.Cut(d.From, " ") // without the extension's parameter
			if diff := cmp.Diff(want, d); diff != "" {
				t.Error(diff)
			}
			checkMessage(t, data, m)
		})
	}
}

// checkMessage parses what arrived.
func checkMessage(t *testing.T, data string, m Message) {
	t.Helper()
	got, err := mail.ReadMessage(strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	from, err := got.Header.AddressList("From")
	if err != nil || from[0].Name != "Der Bär" {
		t.Errorf("From %v, %v", from, err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
	if err != nil || subject != m.Subject {
		t.Errorf("subject %q, %v", subject, err)
	}
	if _, err := got.Header.Date(); err != nil {
		t.Error(err)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(got.Body))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimRight(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n"); got != strings.TrimRight(m.Text, "\n") {
		t.Errorf("text %q", got)
	}
	for l := range strings.SplitSeq(data, "\r\n") {
		if len(l) > 998 {
			t.Errorf("a line of %d bytes", len(l))
		}
		for _, c := range []byte(l) {
			if c >= 0x80 {
				t.Fatalf("8-bit line %q", l)
			}
		}
	}
}

func TestSubjectCannotAddHeaders(t *testing.T) {
	server := startSMTP(t, &smtpServer{})
	m := Message{To: "a@x.test", Subject: "Hi\r\nBcc: evil@x.test\n\nbody", Text: "t"}
	if err := server.client(t, "").Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got, err := mail.ReadMessage(strings.NewReader(server.deliveries()[0].Data))
	if err != nil {
		t.Fatal(err)
	}
	if got.Header.Get("Bcc") != "" || got.Header.Get("Subject") != "Hi Bcc: evil@x.test body" {
		t.Errorf("%v", got.Header)
	}
}

func TestBodyCannotEndTheMessage(t *testing.T) {
	server := startSMTP(t, &smtpServer{})
	m := Message{To: "a@x.test", Subject: "s", Text: "one\r\n.\r\nMAIL FROM:<evil@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\ntwo"}
	if err := server.client(t, "").Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if got := server.deliveries(); len(got) != 1 || !strings.Contains(got[0].Data, "two") {
		t.Errorf("%+v", got)
	}
}

func TestPasswordIsNotSentInTheClear(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		server := startSMTP(t, &smtpServer{auth: mechanism})
		c := server.client(t, "me:pw@")
		// As if it were another machine: only the name matters to the check.
		conn, err := net.Dial("tcp", server.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.host = "mail.test"
		if err := c.converse(conn, func(c *smtp.Client) error { return deliver(c, "a@x.test", nil) }); err == nil {
			t.Errorf("%s: no error", mechanism)
		}
	}
}

func TestUntrustedCertificateIsRefused(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		server := startSMTP(t, &smtpServer{implicit: implicit, startTLS: !implicit})
		c := server.client(t, "")
		c.tls.RootCAs = x509.NewCertPool()
		var unknown x509.UnknownAuthorityError
		if err := c.Send(t.Context(), Message{To: "a@x.test"}); !errors.As(err, &unknown) {
			t.Errorf("implicit %v: %v", implicit, err)
		}
	}
}

// A probe signs in and names the sender, and sends nothing.
func TestProbe(t *testing.T) {
	server := startSMTP(t, &smtpServer{startTLS: true, auth: "PLAIN"})
	if err := server.client(t, "me:pw@").Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if got := server.got; len(got) != 0 || len(server.probes) != 1 || server.probes[0].Auth != "|me|pw" || !strings.Contains(server.probes[0].From, "pds@example.test") {
		t.Errorf("%+v, %+v", got, server.probes)
	}
	plain := startSMTP(t, &smtpServer{})
	stranger := plain.client(t, "")
	if stranger.implicit = true; stranger.Probe(t.Context()) == nil {
		t.Error("a server without TLS has it")
	}
	plain.listener.Close()
	if err := plain.client(t, "").Probe(t.Context()); err == nil {
		t.Error("nobody answers, and no error")
	}
	sender, err := New(Config{URL: "smtp:///?sendmail=true", From: "a@b.test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := sender.(Prober).Probe(t.Context()); err == nil {
		t.Error("no program, and no error")
	}
}

func TestRefusedRecipient(t *testing.T) {
	server := startSMTP(t, &smtpServer{refuse: "550 no such user"})
	err := server.client(t, "").Send(t.Context(), Message{To: "a@x.test"})
	if err == nil || !strings.Contains(err.Error(), "no such user") {
		t.Errorf("%v", err)
	}
}

func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s, err := New(Config{URL: "smtp://" + l.Addr().String(), From: "a@b.test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), Message{To: "a@x.test"}); err == nil {
		t.Error("no error")
	}
}

func TestSilentServerEndsWithTheContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its backlog, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := New(Config{URL: "smtp://" + l.Addr().String(), From: "a@b.test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Send(ctx, Message{To: "a@x.test"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
