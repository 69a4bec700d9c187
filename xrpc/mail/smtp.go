package mail

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/url"
	"os/exec"
	"strings"
	"time"
	"unicode"
)

const (
	// sendTimeout bounds one whole delivery to the server.
	sendTimeout = 30 * time.Second
	// dialTimeout bounds the connection within it.
	dialTimeout = 10 * time.Second
)

// smtpSender delivers to an SMTP server (RFC 5321), a connection per message: a PDS
// sends few, and a kept connection would mostly be found closed.
type smtpSender struct {
	from     mail.Address
	host     string
	port     string
	implicit bool // TLS from the start (RFC 8314)
	user     *url.Userinfo
	tls      *tls.Config
}

func newSMTP(raw, from string) (Sender, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The URL has a password in it: do not show it.
		return nil, errors.New("mail: malformed SMTP URL")
	}
	sender, err := mail.ParseAddress(from)
	if err != nil || strings.ContainsAny(from, "\r\n") {
		return nil, fmt.Errorf("mail: %q is not a sender's address", from)
	}
	if u.Scheme == "smtp" && u.Query().Get("sendmail") == "true" {
		return sendmail{*sender}, nil
	}
	s := &smtpSender{from: *sender, host: u.Hostname(), port: u.Port(), user: u.User}
	switch u.Scheme {
	case "smtp":
		if s.port == "" {
			s.port = "587"
		}
	case "smtps":
		s.implicit = true
		if s.port == "" {
			s.port = "465"
		}
	default:
		return nil, fmt.Errorf("mail: the scheme of an SMTP URL is smtp or smtps, not %q", u.Scheme)
	}
	if s.host == "" {
		return nil, errors.New("mail: no host in the SMTP URL")
	}
	s.tls = &tls.Config{ServerName: s.host, MinVersion: tls.VersionTLS12}
	return s, nil
}

func (s *smtpSender) Send(ctx context.Context, m Message) error {
	if err := check(m); err != nil {
		return err
	}
	text, err := compose(s.from, m, time.Now())
	if err != nil {
		return err
	}
	return s.speak(ctx, func(c *smtp.Client) error { return deliver(c, m.To, text) })
}

// Probe implements Prober.
func (s *smtpSender) Probe(ctx context.Context) error {
	return s.speak(ctx, (*smtp.Client).Reset)
}

// speak connects, signs in, names the sender, and calls fn with what is left to do.
func (s *smtpSender) speak(ctx context.Context, fn func(*smtp.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	conn, err := s.dial(ctx)
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	// The end of the context interrupts whatever the connection is waiting for.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err = s.converse(conn, fn)
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("mail: %s: %w", net.JoinHostPort(s.host, s.port), err)
}

func (s *smtpSender) dial(ctx context.Context) (net.Conn, error) {
	address := net.JoinHostPort(s.host, s.port)
	d := net.Dialer{Timeout: dialTimeout}
	if s.implicit {
		return (&tls.Dialer{NetDialer: &d, Config: s.tls}).DialContext(ctx, "tcp", address)
	}
	return d.DialContext(ctx, "tcp", address)
}

// converse speaks SMTP on a connection and closes it.
func (s *smtpSender) converse(conn net.Conn, fn func(*smtp.Client) error) error {
	c, err := smtp.NewClient(conn, s.host)
	if err != nil {
		conn.Close()
		return err
	}
	defer c.Close()
	if err := c.Hello(helloName(s.from.Address)); err != nil {
		return err
	}
	if ok, _ := c.Extension("STARTTLS"); ok && !s.implicit {
		if err := c.StartTLS(s.tls); err != nil {
			return err
		}
	}
	if s.user != nil {
		if err := s.authenticate(c); err != nil {
			return err
		}
	}
	if err := c.Mail(s.from.Address); err != nil {
		return err
	}
	if err := fn(c); err != nil {
		return err
	}
	// What was to be done is done: that the server then hangs up is no failure.
	c.Quit()
	return nil
}

// deliver sends a message to whom it is for.
func deliver(c *smtp.Client, to string, text []byte) error {
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return w.Close()
}

// authenticate sends the password by what the server offers, in the clear only
// under TLS or to this machine.
func (s *smtpSender) authenticate(c *smtp.Client) error {
	user := s.user.Username()
	password, _ := s.user.Password()
	_, offered := c.Extension("AUTH")
	methods := strings.Fields(strings.ToUpper(offered))
	has := func(name string) bool {
		for _, m := range methods {
			if m == name {
				return true
			}
		}
		return false
	}
	switch {
	case has("LOGIN") && !has("PLAIN"):
		return c.Auth(&loginAuth{user: user, password: password, host: s.host})
	case has("CRAM-MD5") && !has("PLAIN"):
		return c.Auth(smtp.CRAMMD5Auth(user, password))
	}
	return c.Auth(smtp.PlainAuth("", user, password, s.host))
}

// loginAuth is the mechanism LOGIN, the only one that some servers offer.
type loginAuth struct {
	user, password, host string
	step                 int
}

func (a *loginAuth) Start(server *smtp.ServerInfo) (string, []byte, error) {
	ip := net.ParseIP(server.Name)
	if !server.TLS && server.Name != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", nil, errors.New("the server asks for the password over an unencrypted connection")
	}
	if server.Name != a.host {
		return "", nil, errors.New("wrong host name")
	}
	return "LOGIN", nil, nil
}

func (a *loginAuth) Next(_ []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	a.step++
	switch a.step {
	case 1:
		return []byte(a.user), nil
	case 2:
		return []byte(a.password), nil
	}
	return nil, errors.New("unexpected challenge of the server")
}

// helloName is what the client calls itself: the domain that it sends for.
func helloName(from string) string {
	if _, domain, ok := strings.Cut(from, "@"); ok && domain != "" {
		return domain
	}
	return "localhost"
}

// sendmail hands messages to the program of that name.
type sendmail struct{ from mail.Address }

func (s sendmail) Send(ctx context.Context, m Message) error {
	if err := check(m); err != nil {
		return err
	}
	text, err := compose(s.from, m, time.Now())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sendmail", "-i", "-f", s.from.Address, "--", m.To)
	cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mail: sendmail: %w: %.500s", err, bytes.TrimSpace(out))
	}
	return nil
}

// Probe implements Prober.
func (s sendmail) Probe(context.Context) error {
	_, err := exec.LookPath("sendmail")
	return err
}

// compose writes a message in Internet Message Format (RFC 5322) with MIME, UTF-8 as
// quoted-printable.
func compose(from mail.Address, m Message, now time.Time) ([]byte, error) {
	subject := strings.Join(strings.FieldsFunc(m.Subject, func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r)
	}), " ")
	var b bytes.Buffer
	for _, header := range [][2]string{
		{"From", from.String()},
		{"To", (&mail.Address{Address: m.To}).String()},
		{"Subject", mime.QEncoding.Encode("utf-8", subject)},
		{"Date", now.Format(time.RFC1123Z)},
		{"Message-ID", "<" + cmp.Or(m.ID, strings.ToLower(rand.Text())) + "@" + helloName(from.Address) + ">"},
		{"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", header[0], header[1])
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	if _, err := io.WriteString(w, strings.ReplaceAll(m.Text, "\r\n", "\n")); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	b.WriteString("\r\n")
	return b.Bytes(), nil
}
