package pdstest

import (
	"context"
	"strings"
	"sync"

	"github.com/pdskit/pdskit/xrpc/atproto/server"
)

// Mailbox keeps the messages to accounts. It is safe for concurrent use.
type Mailbox struct {
	mu   sync.Mutex
	list []server.Mail
	come chan struct{} // closed when the next message comes
	fail error
}

// Send stores a message: a Mailbox is a [server.Mailer].
func (m *Mailbox) Send(_ context.Context, msg server.Mail) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.list = append(m.list, msg)
	if m.come != nil {
		close(m.come)
		m.come = nil
	}
	return nil
}

// Fail makes the mailbox refuse messages with an error; nil: it accepts them again.
func (m *Mailbox) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// To returns the messages to an address, oldest first.
func (m *Mailbox) To(address string) (list []server.Mail) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, msg := range m.list {
		if strings.EqualFold(msg.To, address) {
			list = append(list, msg)
		}
	}
	return list
}

// Take removes and returns the oldest message of a kind to an address. It waits for one until the
// context ends, since some methods send mail in the background.
func (m *Mailbox) Take(ctx context.Context, address string, kind server.MailKind) (server.Mail, error) {
	for {
		m.mu.Lock()
		for i, msg := range m.list {
			if strings.EqualFold(msg.To, address) && msg.Kind == kind {
				m.list = append(m.list[:i:i], m.list[i+1:]...)
				m.mu.Unlock()
				return msg, nil
			}
		}
		if m.come == nil {
			m.come = make(chan struct{})
		}
		come := m.come
		m.mu.Unlock()
		select {
		case <-come:
		case <-ctx.Done():
			return server.Mail{}, ctx.Err()
		}
	}
}
