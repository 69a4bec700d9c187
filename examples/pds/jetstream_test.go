package main_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/zstd"
)

// The operator trains a dictionary with the events of the running server, restarts it with that, and
// clients of version 2 of the JSON stream fetch and use it.
func TestTrainDictionary(t *testing.T) {
	root := t.TempDir()
	dir, file := filepath.Join(root, "data"), filepath.Join(root, "events.zdict")
	p := start(t, dir)
	o := newOperator(t, dir)
	alice := p.register("alice")
	write := func(n int) {
		t.Helper()
		var writes []map[string]any
		for i := range n {
			writes = append(writes, map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": "com.example.note",
				"value": map[string]any{"text": fmt.Sprintf("The %d. note says nothing that the %d. one does not.", i*i, i)}})
		}
		alice.call(t, "com.atproto.repo.applyWrites", map[string]any{"repo": alice.DID, "writes": writes}, nil)
	}
	write(10)
	o.fails(1, "at least 80 are needed", "jetstream", "train", file)
	if _, err := os.Stat(file); err == nil {
		t.Fatal("a file was made")
	}
	write(190)
	write(190)
	var out struct {
		ID, Bytes, Messages, With, Without int
	}
	o.ok(&out, "jetstream", "train", file)
	first := out.ID
	if out.Messages < 390 || out.With >= out.Without || out.With > 50 || first < 20_250_000 {
		t.Errorf("%+v", out)
	}
	if o.ok(&out, "jetstream", "train", file); out.ID != first+1 {
		t.Errorf("the next number after %d is %d", first, out.ID)
	}
	o.fails(2, "has number", "jetstream", "train", "-id", fmt.Sprint(out.ID), file)
	o.fails(2, "private use", "jetstream", "train", "-id", "7", file)
	other := filepath.Join(root, "notes.txt")
	if err := os.WriteFile(other, []byte("not a dictionary"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.fails(1, "not overwritten", "jetstream", "train", other)
	p.interrupt()

	p = start(t, dir, p.port(), "PDS_JETSTREAM=true", "PDS_JETSTREAM_V2_DICTIONARY="+file)
	resp, err := p.anonymous().Get(t.Context(), "network.bsky.jetstream.getZstdDictionary", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(ctx, p.url+fmt.Sprintf("/xrpc/network.bsky.jetstream.subscribeEvents?cursor=0&kinds=commit&zstdDictionary=%d", out.ID), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	_, frame, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderDicts(raw))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := r.DecodeAll(frame, nil)
	if err != nil || !strings.Contains(string(text), `"com.example.note"`) || len(frame)*2 > len(text) {
		t.Errorf("%d bytes are %q: %v", len(frame), text, err)
	}
}
