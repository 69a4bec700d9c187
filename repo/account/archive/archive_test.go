package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/archive"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

const alice syntax.DID = "did:web:alice.example.com"

// server is one with an account.
type server struct {
	t testing.TB
	*account.Store
	blobs []cid.Cid
}

func newServer(t testing.TB) *server {
	t.Helper()
	box, err := sealed.New([]byte("32 bytes that stay the same, ok?"))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, Store: account.Open(repo.Config{Store: memory.New(memory.Config{}), TempDir: t.TempDir()}, box)}
	if err := s.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) create(did syntax.DID) {
	s.t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	if err == nil {
		_, err = s.Create(s.t.Context(), account.Account{DID: did, Handle: "alice.example.com"}, key, repo.Batch{})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// post writes a record with a blob.
func (s *server) post(rkey, blob string) {
	s.t.Helper()
	info, err := s.Host().UploadBlob(s.t.Context(), alice, "image/png", strings.NewReader(blob), 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.blobs = append(s.blobs, info.CID)
	s.write(repo.Create, rkey, data.Blob{Ref: info.CID, MIME: "image/png", Size: info.Size}.Value())
}

func (s *server) write(action repo.Action, rkey string, blob any) {
	s.t.Helper()
	w := repo.Write{Action: action, Collection: "com.example.note", RKey: syntax.RecordKey(rkey)}
	if action != repo.Delete {
		record, err := data.Encode(map[string]any{"$type": "com.example.note", "text": rkey, "blob": blob})
		if err != nil {
			s.t.Fatal(err)
		}
		w.Record = record
	}
	if _, err := s.Host().Apply(s.t.Context(), alice, repo.Batch{Writes: []repo.Write{w}}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) prefer(text string) {
	s.t.Helper()
	err := s.SetPreferences(s.t.Context(), account.Trusted(alice), func([]account.Preference) ([]account.Preference, error) {
		return []account.Preference{{"$type": []byte(`"com.example.prefs"`), "text": []byte(fmt.Sprintf("%q", text))}}, nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// state is all that an archive has of the account.
func (s *server) state() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	records, err := s.Host().List(s.t.Context(), alice, "com.example.note", repo.ListOptions{Limit: 100})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range records {
		all[r.Path] = r.CID.String()
	}
	prefs, err := s.Preferences(s.t.Context(), alice)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range prefs {
		all[p.Type()] = string(p["text"])
	}
	for _, c := range s.blobs {
		r, info, err := s.Host().OpenBlob(s.t.Context(), alice, c)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(r)
		if r.Close(); err != nil {
			s.t.Fatal(err)
		}
		all[c.String()] = info.MIME + " " + string(text)
	}
	return all
}

// full is a server with an account that has some of everything.
func full(t testing.TB) *server {
	s := newServer(t)
	s.create(alice)
	for i := range 5 {
		s.post(fmt.Sprint("note", i), strings.Repeat(fmt.Sprint("blob ", i), 100*i+1))
	}
	s.prefer("dark")
	return s
}

// vandalize is what an app with a fault does.
func (s *server) vandalize() {
	for i := range 4 {
		s.write(repo.Delete, fmt.Sprint("note", i), nil)
	}
	s.post("spam", "spam")
	s.prefer("pink")
	if _, err := s.Host().SweepBlobs(s.t.Context(), alice, time.Now().Add(time.Hour)); err != nil {
		s.t.Fatal(err)
	}
}

// An archive in either form brings everything back into the account, at a later revision, and may be
// imported again.
func TestRoundTrip(t *testing.T) {
	forms := map[string]func(context.Context, *account.Store, syntax.DID, string, archive.Options) (*archive.Manifest, error){
		"file": archive.ToFile, "folder": archive.ToDir,
	}
	for name, to := range forms {
		t.Run(name, func(t *testing.T) {
			s := full(t)
			path := filepath.Join(t.TempDir(), "alice")
			made, err := to(t.Context(), s.Store, alice, path, archive.Options{Temp: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			if made.Records != 5 || len(made.Blobs) != 5 || made.Missing != nil {
				t.Errorf("%+v", made)
			}
			if _, err := to(t.Context(), s.Store, alice, path, archive.Options{}); !errors.Is(err, archive.ErrExists) {
				t.Errorf("over it: %v", err)
			}
			key, err := s.Signer(t.Context(), alice)
			if err != nil {
				t.Fatal(err)
			}
			read, err := archive.Verify(t.Context(), path, archive.Options{Key: key.PublicKey()})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(made, read); d != "" {
				t.Error(d)
			}
			before := s.state()
			s.vandalize()
			worse, err := s.Host().Head(t.Context(), alice)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				res, err := archive.Import(t.Context(), s.Store, path, archive.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if res.Rev <= worse.Rev || res.Missing != 0 {
					t.Errorf("%+v after %s", res, worse.Rev)
				}
				if d := cmp.Diff(before, s.state()); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

// A stream can be verified while it is written.
func TestStream(t *testing.T) {
	s := full(t)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := archive.VerifyTar(t.Context(), r, archive.Options{})
		r.CloseWithError(err)
		done <- err
	}()
	_, err := archive.ToTar(t.Context(), s.Store, alice, w, archive.Options{})
	w.CloseWithError(err)
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
}

// Blobs that the server has lost are named, and are no reason not to export the rest.
func TestMissingBlobs(t *testing.T) {
	s := full(t)
	if err := s.Host().Store().Blobs.Delete(t.Context(), alice, s.blobs[1]); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "alice.tar")
	m, err := archive.ToFile(t.Context(), s.Store, alice, path, archive.Options{})
	if err != nil || len(m.Missing) != 1 || m.Missing[0] != s.blobs[1].String() || len(m.Blobs) != 4 {
		t.Fatalf("%+v, %v", m, err)
	}
	res, err := archive.Import(t.Context(), s.Store, path, archive.Options{})
	if err != nil || res.Missing != 1 {
		t.Errorf("%+v, %v", res, err)
	}
}

// Neither an archive of another account, nor one that somebody else has signed, changes anything.
func TestOthersArchives(t *testing.T) {
	s, other := full(t), full(t)
	path := filepath.Join(t.TempDir(), "alice.tar")
	if _, err := archive.ToFile(t.Context(), other.Store, alice, path, archive.Options{}); err != nil {
		t.Fatal(err)
	}
	s.vandalize()
	before := s.state()
	if _, err := archive.Import(t.Context(), s.Store, path, archive.Options{}); !errors.Is(err, repo.ErrInvalidImport) {
		t.Errorf("signed by another key: %v", err)
	}
	if d := cmp.Diff(before, s.state()); d != "" {
		t.Error(d)
	}
	empty := newServer(t)
	if _, err := archive.Import(t.Context(), empty.Store, path, archive.Options{}); !errors.Is(err, archive.ErrNoAccount) {
		t.Errorf("no such account: %v", err)
	}
	if _, err := archive.Import(t.Context(), s.Store, path, archive.Options{AnyKey: true}); err != nil {
		t.Errorf("with any key: %v", err)
	}
}

// tarOf is an archive as bytes.
func tarOf(t testing.TB, s *server) []byte {
	var b bytes.Buffer
	if _, err := archive.ToTar(t.Context(), s.Store, alice, &b, archive.Options{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rewrite returns a tar file whose entries fn has changed; nil: left out.
func rewrite(t *testing.T, file []byte, fn func(name string, content []byte) (string, []byte, int)) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for r := tar.NewReader(bytes.NewReader(file)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name, content, times := fn(h.Name, content)
		for range times {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o600}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// An archive from which something was taken, to which something was added, or in which something was
// changed, is refused, and nothing of it is imported.
func TestHostileArchives(t *testing.T) {
	s := full(t)
	file := tarOf(t, s)
	before := s.state()
	edit := func(name string, fn func([]byte) (string, []byte, int)) []byte {
		return rewrite(t, file, func(n string, c []byte) (string, []byte, int) {
			if n == name || name == "a blob" && strings.HasPrefix(n, "blobs/") {
				to, c, times := fn(c)
				if to == "" {
					to = n
				}
				return to, c, times
			}
			return n, c, 1
		})
	}
	flip := func(c []byte) (string, []byte, int) { c[len(c)/2] ^= 1; return "", c, 1 }
	drop := func(c []byte) (string, []byte, int) { return "", c, 0 }
	twice := func(c []byte) (string, []byte, int) { return "", c, 2 }
	files := map[string][]byte{
		"nothing": {}, "no tar": bytes.Repeat([]byte("x"), 2000), "half of it": file[:len(file)/2],
		"a blob elsewhere": edit("a blob", func(c []byte) (string, []byte, int) { return "../../etc/passwd", c, 1 }),
		"a long blob":      edit("a blob", func(c []byte) (string, []byte, int) { return "", append(c, 'x'), 1 }),
		"other records": edit("account.json", func(c []byte) (string, []byte, int) {
			return "", bytes.Replace(c, []byte(`"records": 5`), []byte(`"records": 6`), 1), 1
		}),
		"a blob called missing": edit("account.json", func(c []byte) (string, []byte, int) {
			return "", bytes.Replace(c, []byte(`"blobs": [`), fmt.Appendf(nil, `"missingBlobs": [%q], "blobs": [`, s.blobs[0]), 1), 1
		}),
		"huge preferences": edit("preferences.json", func([]byte) (string, []byte, int) {
			return "", append(bytes.Repeat([]byte(" "), 2<<20), "[]"...), 1
		}),
	}
	for _, name := range []string{"repo.car", "preferences.json", "account.json", "a blob"} {
		files[name+" left out"], files[name+" twice"], files[name+" changed"] = edit(name, drop), edit(name, twice), edit(name, flip)
	}
	files["other preferences"] = edit("preferences.json", func([]byte) (string, []byte, int) { return "", []byte("[]"), 1 })
	// A blob that neither the file nor its manifest has any longer, although a record refers to it.
	files["a blob hidden"] = rewrite(t, file, func(name string, c []byte) (string, []byte, int) {
		var m archive.Manifest
		switch {
		case name == "blobs/"+s.blobs[0].String():
			return name, c, 0
		case name == "account.json":
			if err := json.Unmarshal(c, &m); err != nil {
				t.Fatal(err)
			}
			m.Blobs = slices.DeleteFunc(m.Blobs, func(b archive.Blob) bool { return b.CID == s.blobs[0].String() })
			c, _ = json.Marshal(m)
		}
		return name, c, 1
	})
	for what, text := range files {
		path := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		for how, err := range map[string]error{
			"verify": second(archive.Verify(t.Context(), path, archive.Options{})),
			"import": second(archive.Import(t.Context(), s.Store, path, archive.Options{AnyKey: true})),
		} {
			if !errors.Is(err, archive.ErrBad) {
				t.Errorf("%s: %s: %v", how, what, err)
			}
		}
	}
	if d := cmp.Diff(before, s.state()); d != "" {
		t.Error(d)
	}
}

func second[T any](_ T, err error) error { return err }

// An import that ends anywhere is finished by another one.
func TestInterruptedImport(t *testing.T) {
	s := full(t)
	path := filepath.Join(t.TempDir(), "alice.tar")
	if _, err := archive.ToFile(t.Context(), s.Store, alice, path, archive.Options{}); err != nil {
		t.Fatal(err)
	}
	before := s.state()
	for stop := range 5 {
		s.vandalize()
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		_, err := archive.Import(ctx, s.Store, path, archive.Options{Progress: func(int) {
			if n++; n > stop {
				cancel()
			}
		}})
		if cancel(); err == nil {
			t.Fatal("it was not interrupted")
		}
		if _, err := archive.Import(t.Context(), s.Store, path, archive.Options{}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before, s.state()); d != "" {
			t.Errorf("after %d blobs: %s", stop, d)
		}
	}
}

// FuzzVerify: whatever is read, there is an error or an archive, and no panic.
func FuzzVerify(f *testing.F) {
	s := full(f)
	file := tarOf(f, s)
	f.Add(file)
	f.Add(file[:len(file)/3])
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := archive.VerifyTar(t.Context(), bytes.NewReader(text), archive.Options{})
		if err != nil && !errors.Is(err, archive.ErrBad) {
			t.Fatal(err)
		}
		if err == nil && m.Records < 0 {
			t.Fatal(m)
		}
	})
}

// Preferences are longer in an archive than a client has sent them, as JSON escapes characters of
// HTML. Whatever a client may send can be read back.
func TestLongPreferences(t *testing.T) {
	s := full(t)
	s.prefer(strings.Repeat("<", 300_000)) // twice as much as a request may have
	file := filepath.Join(t.TempDir(), "alice.tar")
	if _, err := archive.ToFile(t.Context(), s.Store, alice, file, archive.Options{}); err != nil {
		t.Fatal(err)
	}
	want := s.state()
	s.prefer("light")
	if _, err := archive.Import(t.Context(), s.Store, file, archive.Options{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, s.state()); diff != "" {
		t.Error(diff)
	}
}
