package mst

import (
	"fmt"
	"testing"
)

// seekLink finds what seek finds, for keys that are there and for their neighbours, in every node.
func TestSeekLinkIsSeek(t *testing.T) {
	var ops []Op
	var keys []string
	for i := range 2000 {
		key := fmt.Sprintf("app.bsky.feed.%.*s/%d", 1+i%7, "records", i*7919%100_000)
		ops = append(ops, Op{key, emptyCID})
		keys = append(keys, key, key+"0", key[:len(key)-1], key[:len(key)-1]+"~", key[:9], "")
	}
	c, err := Empty().Apply(ops)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range c.New {
		var n node
		n.set(stringOf(b.Data), 0, 0)
		for _, key := range keys {
			s := n.seek(key)
			value, link, kid := n.seekLink(key)
			if s.found {
				if value != s.value {
					t.Fatalf("%q: value at %d, want %d", key, value, s.value)
				}
			} else if value != 0 || link != s.link || link > 0 && kid != s.kid {
				t.Fatalf("%q: %d, link %d of %d; want link %d of %d", key, value, link, kid, s.link, s.kid)
			}
		}
	}
}
