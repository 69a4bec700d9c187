//go:build linux

package cloudflare_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/workerd"
	"github.com/pdskit/pdskit/storage/cloudflare/internal/testpds"
)

// The object has no room for more: at the nth write, for each n. Whoever writes is told so, nothing is
// torn, all can still be read, and writes succeed once there is room again, without a restart.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	s := startWorker(t, nil)
	get(t, s, "/test/create")
	answered, program1 := 0, program(t, s, "one")
	list := "/xrpc/com.atproto.repo.listRecords?limit=100&collection=com.example.note&repo=" + string(testpds.Alice)
	for n, refused := 0, true; refused; n++ {
		if n > 20 {
			t.Fatal("createRecord writes more than 20 times")
		}
		get(t, s, fmt.Sprint("/test/room?n=", n))
		status := createRecord(t, s)
		if refused = status != 200; !refused {
			answered++
		} else if status != http.StatusServiceUnavailable {
			t.Errorf("write %d: status %d", n, status)
		}
		if records := strings.Count(get(t, s, list), `"uri"`); records != answered {
			t.Errorf("write %d: %d records after %d answers", n, records, answered)
		}
		get(t, s, "/test/room")
		if status := createRecord(t, s); status != 200 {
			t.Fatalf("with room again: status %d", status)
		}
		answered++
	}
	if events := logged(t, s); len(events) != answered+1 {
		t.Errorf("%d events of %d records", len(events), answered)
	}
	// A large import stops in its middle, and leaves nothing behind that keeps the next one from its place.
	car := export(t, 1000)
	imported := func() int {
		r, err := http.Post(s.URL+"/xrpc/com.atproto.repo.importRepo", "application/vnd.ipld.car", bytes.NewReader(car))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r.StatusCode
	}
	for _, n := range []int{0, 1, 3} {
		get(t, s, fmt.Sprint("/test/room?n=", n))
		if status := imported(); status != http.StatusServiceUnavailable {
			t.Errorf("an import without room: status %d", status)
		}
		get(t, s, "/test/room")
		if status := createRecord(t, s); status != 200 {
			t.Fatalf("after an import without room: status %d", status)
		}
	}
	if status := imported(); status != 200 {
		t.Errorf("an import: status %d", status)
	}
	get(t, s, "/test/check")
	same(t, "program", program(t, s, "one"), program1)
}

// r2 plans a fault, and returns what has become of the last one.
func r2(tb testing.TB, s *workerd.Server, method, mode string) (state struct{ Left, Objects, Open int }) {
	tb.Helper()
	n := 1
	if method == "" {
		n = 0
	}
	if err := json.Unmarshal([]byte(get(tb, s, fmt.Sprintf("/test/r2?method=%s&mode=%s&n=%d", method, mode, n))), &state); err != nil {
		tb.Fatal(err)
	}
	return state
}

// R2 refuses, fails after it has done what was asked, never answers, loses a part, or sends less or others
// than it has. Clients are told that it may work later, no blob is lost, none has other bytes, and nothing is
// left in the bucket.
func TestR2Fails(t *testing.T) {
	t.Parallel()
	s := startWorker(t, map[string]string{"R2": "300"})
	get(t, s, "/test/create")
	post := func(path string, body io.Reader, kind string) (int, string) {
		t.Helper()
		r, err := http.NewRequest("POST", s.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	type made struct {
		cid, rkey string
		blob      []byte
	}
	var kept []made
	count := byte(0)
	blobOf := func(size int) []byte { count++; return bytes.Repeat([]byte{count, 1, 2, 3}, size/4) }
	upload := func(blob []byte) (int, string) {
		t.Helper()
		return post("/xrpc/com.atproto.repo.uploadBlob", bytes.NewReader(blob), "application/octet-stream")
	}
	// keep makes a record with a blob that was uploaded.
	keep := func(blob []byte, answer string) made {
		t.Helper()
		var up struct {
			Blob struct{ Ref map[string]string }
		}
		if err := json.Unmarshal([]byte(answer), &up); err != nil {
			t.Fatal(err)
		}
		var whole struct{ Blob json.RawMessage }
		_ = json.Unmarshal([]byte(answer), &whole)
		m := made{up.Blob.Ref["$link"], fmt.Sprint("blob", count), blob}
		in := fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":%q,"record":{"$type":"com.example.note","b":%s}}`, testpds.Alice, m.rkey, whole.Blob)
		if status, text := post("/xrpc/com.atproto.repo.createRecord", strings.NewReader(in), "application/json"); status != 200 {
			t.Fatal(status, text)
		}
		return m
	}
	read := func(m made) (whole bool) {
		t.Helper()
		resp, err := http.Get(s.URL + "/xrpc/com.atproto.sync.getBlob?did=" + string(testpds.Alice) + "&cid=" + m.cid)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode == 200 && !bytes.Equal(b, m.blob) {
			t.Errorf("%d bytes of %d, or others, as if they were the blob", len(b), len(m.blob))
		}
		return err == nil && resp.StatusCode == 200
	}
	const small, large = 1000, 6 << 20
	for _, f := range []struct {
		method, modes string
		size          int
	}{
		{"put", "refused lost silent", small}, {"createMultipartUpload", "refused", large}, {"uploadPart", "refused silent etag", large},
		{"complete", "refused lost", large},
	} {
		for mode := range strings.FieldsSeq(f.modes) {
			what := f.method + " " + mode
			blob := blobOf(f.size)
			r2(t, s, f.method, mode)
			status, text := upload(blob)
			if status != http.StatusServiceUnavailable || !strings.Contains(text, `"error"`) {
				t.Errorf("%s: %d %.200s", what, status, text)
			}
			if r2(t, s, "", "").Left != 0 {
				t.Errorf("%s was not reached", what)
			}
			if status, text = upload(blob); status != 200 {
				t.Fatalf("%s: then %d %.200s", what, status, text)
			}
			kept = append(kept, keep(blob, text))
		}
	}
	for mode := range strings.FieldsSeq("refused lost silent short cut other") {
		for i, m := range []made{kept[0], kept[len(kept)-1]} {
			if i > 0 && (mode == "refused" || mode == "lost" || mode == "silent") {
				continue // the length is of no consequence
			}
			r2(t, s, "get", mode)
			whole := read(m)
			if r2(t, s, "", "").Left != 0 {
				t.Errorf("get %s was not reached", mode)
			}
			t.Logf("get %s of %d bytes: whole %v", mode, len(m.blob), whole)
			if !read(m) {
				t.Errorf("after get %s the blob of %d bytes cannot be read", mode, len(m.blob))
			}
		}
	}
	for mode := range strings.FieldsSeq("refused lost silent") {
		m := kept[0]
		kept = kept[1:]
		r2(t, s, "delete", mode)
		in := fmt.Sprintf(`{"repo":%q,"collection":"com.example.note","rkey":%q}`, testpds.Alice, m.rkey)
		if status, text := post("/xrpc/com.atproto.repo.deleteRecord", strings.NewReader(in), "application/json"); status != 200 {
			t.Errorf("delete %s: %d %s", mode, status, text)
		}
		for range 2 { // the first one may be the one that fails
			resp, err := http.Get(s.URL + "/test/collect")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		if read(m) {
			t.Errorf("delete %s: the blob is still there", mode)
		}
	}
	for mode := range strings.FieldsSeq("refused silent") {
		r2(t, s, "list", mode)
		if resp, err := http.Get(s.URL + "/test/collect"); err != nil || resp.StatusCode == 200 {
			t.Errorf("list %s: %v", mode, err)
		}
	}
	testenv.Until(t, "nothing is left in the bucket but the blobs", func() bool {
		get(t, s, "/test/collect")
		state := r2(t, s, "", "")
		return state.Objects <= len(kept)+1 // a probe may be there
	})
	for _, m := range kept {
		if !read(m) {
			t.Errorf("a blob of %d bytes is lost", len(m.blob))
		}
	}
	t.Logf("%+v, %d blobs", r2(t, s, "", ""), len(kept))
	get(t, s, "/test/check")
}
