package provider

import "testing"

func TestFlow(t *testing.T) {
	w := newWorld(t)
	for _, a := range []*app{w.public(), w.confidential()} {
		tok := a.login()
		a.alive(tok.access, true)
		next := a.refresh(tok.refresh).tokens(t)
		a.alive(next.access, true)
	}
}
