package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/mail"
	"net/textproto"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Mailbox is a mail server that takes everything and keeps it.
type Mailbox struct {
	mu   sync.Mutex
	mail []message
}

type message struct{ to, subject, text string }

// Serve takes mail from a listener, which speaks TLS.
func (m *Mailbox) Serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go m.session(c)
	}
}

func (m *Mailbox) session(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	r := textproto.NewReader(bufio.NewReader(c))
	say := func(text string) { io.WriteString(c, text+"\r\n") }
	say("220 a mail server")
	var to []string
	for {
		line, err := r.ReadLine()
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch verb {
		case "EHLO":
			say("250-hello\r\n250 AUTH PLAIN")
		case "AUTH":
			say("235 welcome")
		case "RCPT":
			to = append(to, strings.Trim(line[len("RCPT TO:"):], "<> "))
			say("250 ok")
		case "DATA":
			say("354 go on")
			text, err := io.ReadAll(r.DotReader())
			if err != nil {
				return
			}
			parsed, err := mail.ReadMessage(strings.NewReader(string(text)))
			if err != nil {
				say("554 " + err.Error())
				return
			}
			m.mu.Lock()
			for _, a := range to {
				m.mail = append(m.mail, message{a, parsed.Header.Get("Subject"), string(text)})
			}
			m.mu.Unlock()
			to = nil
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// mailCode is what people copy from mail.
var mailCode = regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`)

// Wait waits for a message to an address, after the first n ones, and returns the text of the
// newest.
func (m *Mailbox) Wait(to string, n int) (string, error) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		m.mu.Lock()
		for i := len(m.mail) - 1; i >= n; i-- {
			if strings.EqualFold(m.mail[i].to, to) {
				text := m.mail[i].text
				m.mu.Unlock()
				return text, nil
			}
		}
		m.mu.Unlock()
	}
	return "", fmt.Errorf("no mail came to %s", to)
}

// Count is how many messages there are.
func (m *Mailbox) Count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.mail)
}
