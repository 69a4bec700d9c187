package main

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is the whole of the names that there are: addresses, also for all names below "*.NAME", and
// texts. It is safe for concurrent use.
type DNS struct {
	mu        sync.Mutex
	addresses map[string]netip.Addr
	texts     map[string]string
}

// Set makes a name lead to an address.
func (d *DNS) Set(address string, names ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.addresses == nil {
		d.addresses, d.texts = map[string]netip.Addr{}, map[string]string{}
	}
	for _, name := range names {
		d.addresses[name] = netip.MustParseAddr(address)
	}
}

// SetText makes a TXT record.
func (d *DNS) SetText(name, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.texts[name] = text
}

// find looks a name up; it may be there without having the type of the question.
func (d *DNS) find(name string) (address netip.Addr, text string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	text, hasText := d.texts[name]
	address, ok = d.addresses[name]
	for below := name; !ok && below != ""; {
		_, below, _ = strings.Cut(below, ".")
		address, ok = d.addresses["*."+below]
	}
	return address, text, ok || hasText
}

// answer makes the answer to a question.
func (d *DNS) answer(in []byte) ([]byte, error) {
	var p dnsmessage.Parser
	head, err := p.Start(in)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	address, text, ok := d.find(name)
	out := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: head.ID, Response: true, Authoritative: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	rh := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	switch {
	case !ok:
		out.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA && address.Is4():
		out.Answers = []dnsmessage.Resource{{Header: rh, Body: &dnsmessage.AResource{A: address.As4()}}}
	case q.Type == dnsmessage.TypeTXT && text != "":
		out.Answers = []dnsmessage.Resource{{Header: rh, Body: &dnsmessage.TXTResource{TXT: []string{text}}}}
	}
	return out.Pack()
}

// Serve answers at an address, by UDP and TCP.
func (d *DNS) Serve(address string) error {
	u, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			if out, err := d.answer(buf[:n]); err == nil {
				u.WriteTo(out, from)
			}
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go d.stream(c)
		}
	}()
	return nil
}

func (d *DNS) stream(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		in := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, in); err != nil {
			return
		}
		out, err := d.answer(in)
		if err != nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
			return
		}
	}
}
