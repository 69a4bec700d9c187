package server

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// A client that reads nothing is given up, however much it is sent and however long it waits.
func TestClientNeverReads(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	client, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := stallListener{inner, 50 * time.Millisecond}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// It has read something until now, so each write has a time of its own.
	for range 3 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(60 * time.Millisecond)
	}
	big := make([]byte, 1<<20)
	for i := 0; err == nil; i++ {
		if _, err = c.Write(big); i > 1000 {
			t.Fatal("it takes all")
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}

	// A deadline of somebody's own counts instead.
	c.SetWriteDeadline(time.Now().Add(-time.Second))
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after a deadline: %v", err)
	}
}
