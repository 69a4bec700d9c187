package main_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pdskit/pdskit/internal/s3test"
	"github.com/pdskit/pdskit/storage/s3"
)

// backupStore is a bucket for backups on a server, with the environment that reaches it.
type backupStore struct {
	srv    *s3test.Server
	bucket string
	env    []string
}

func newBackupStore(t *testing.T, srv *s3test.Server, endpoint string) backupStore {
	return backupStore{srv, srv.Bucket(t), []string{
		"PDS_BACKUP_S3_ENDPOINT=" + endpoint, "PDS_BACKUP_S3_FORCE_PATH_STYLE=true",
		"PDS_BACKUP_S3_ACCESS_KEY_ID=" + s3test.AccessKeyID, "PDS_BACKUP_S3_SECRET_ACCESS_KEY=" + s3test.SecretAccessKey,
	}}
}

// objects are the names below a prefix, with sizes.
func (b backupStore) objects(t *testing.T, prefix string) map[string]int64 {
	t.Helper()
	objects, err := s3.New(s3.Config{Bucket: b.bucket, Endpoint: b.srv.Endpoint(), ForcePathStyle: true, AccessKeyID: s3test.AccessKeyID, SecretAccessKey: s3test.SecretAccessKey})
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]int64)
	for o, err := range objects.List(t.Context(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		m[o.Name] = o.Size
	}
	return m
}

// identityFile is a file with an age identity, and its recipient.
func identityFile(t *testing.T) (file, recipient string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(file, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, id.Recipient().String()
}

// A server is backed up to a store of objects while it runs, encrypted, and restored from it.
func TestBackupToS3(t *testing.T) {
	srv := s3test.Start(t)
	store := newBackupStore(t, srv, srv.Endpoint())
	root := t.TempDir()
	dir, at := filepath.Join(root, "data"), "s3://"+store.bucket+"/pds"
	identity, recipient := identityFile(t)
	p := start(t, dir)
	o := newOperator(t, dir, append(store.env, p.port())...)
	alice := p.register("alice")
	for i := range 3 {
		alice.aBlob(t, fmt.Sprint("blob ", i))
	}
	for i, args := range [][]string{{"-s3"}, {"-fast"}, {"-keep", "2"}} {
		var m struct {
			Blobs, Number int
			Encrypted     bool
		}
		if o.ok(&m, append(append([]string{"backup", "-to-age", recipient}, args...), at)...); m.Blobs != 3+i || m.Number != i+1 || !m.Encrypted {
			t.Errorf("%+v", m)
		}
		alice.aBlob(t, fmt.Sprint("another blob ", i))
	}
	o.fails(0, "can be restored. It has 1 account, ", "verify-backup", "-s3", "-identity", identity, at)
	o.fails(2, "the backup is encrypted", "verify-backup", at)
	o.fails(2, "-s3 is followed by s3://", "backup", "-s3", root)
	o.fails(2, "-tar is for files", "backup", "-tar", at)
	o.fails(1, "NoSuchBucket", "backup", "s3://nobody-has-it/x")
	newOperator(t, dir).fails(2, "PDS_BACKUP_S3_ACCESS_KEY_ID", "backup", at)

	p.kill()
	restored := filepath.Join(root, "restored")
	r := newOperator(t, restored, append(store.env, p.port())...)
	r.fails(0, "All is well with 1 account", "restore", "-identity", identity, at)
	p = start(t, restored, p.port())
	if _, err := p.login(t, alice.Handle, "password of alice"); err != nil {
		t.Error(err)
	}
	// The generation before, by its name.
	var older string
	for name := range store.objects(t, "pds/generations/") {
		if g, ok := strings.CutSuffix(name, "/backup.json"); ok && (older == "" || g < older) {
			older = g
		}
	}
	for name := range store.objects(t, "pds/") {
		if strings.Contains(name, "/lock/") || strings.Contains(name, "/unfinished/") {
			t.Errorf("left: %s", name)
		}
	}
	o.fails(0, "can be restored", "verify-backup", "-identity", identity, "s3://"+store.bucket+"/"+older)
}

// A backup to a store that hangs, breaks off and answers with errors is killed again and again. Each
// time the one before it can be restored, and at the end the last one.
func TestBackupToS3Killed(t *testing.T) {
	if testing.Short() {
		t.Skip("runs many processes")
	}
	srv := s3test.Start(t)
	target, err := url.Parse(srv.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	var requests, bad atomic.Int64
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	faulty := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch requests.Add(1) % 23 {
		case 7:
			bad.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
		case 13:
			bad.Add(1)
			panic(http.ErrAbortHandler)
		default:
			proxy.ServeHTTP(w, r)
		}
	})}
	go faulty.Serve(l)
	defer faulty.Close()
	store := newBackupStore(t, srv, "http://"+l.Addr().String())
	at := "s3://" + store.bucket + "/deep/prefix"
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, dir)
	o := newOperator(t, dir, append(store.env, p.port())...)
	alice := p.register("alice")
	for i := range 20 {
		alice.aBlob(t, fmt.Sprint("blob ", i))
	}
	begun := time.Now()
	o.ok(nil, "backup", at)
	whole := time.Since(begun)
	bin := program(t)
	rounds := 4
	if long() {
		rounds = 40
	}
	killed := 0
	for round := range rounds {
		for i := range 5 {
			alice.aBlob(t, fmt.Sprint("round ", round, i))
		}
		cmd := exec.Command(bin, "backup", "-keep", "3", at)
		cmd.Env = o.env
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(rand.Int64N(int64(whole))), func() { cmd.Process.Signal(syscall.SIGKILL) })
		if cmd.Wait() != nil {
			killed++
		}
		timer.Stop()
		var m struct {
			Check struct{ Accounts, Blobs, Found int }
		}
		if o.ok(&m, "verify-backup", at); m.Check.Accounts != 1 || m.Check.Blobs < 20 || m.Check.Found > 0 {
			t.Fatalf("round %d: %+v", round, m)
		}
	}
	var m struct{ Check struct{ Blobs, Found int } }
	o.ok(nil, "backup", at)
	if o.ok(&m, "verify-backup", at); m.Check.Blobs != 20+5*rounds || m.Check.Found > 0 {
		t.Errorf("%+v", m)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "backup-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	t.Logf("%d of %d killed, %d of %d requests failed", killed, rounds, bad.Load(), requests.Load())
}

// The blobs of a server with a bucket are in a backup if that is asked for: it is restored without
// the bucket, and to the bucket that has lost some. A restore deletes nothing from the bucket.
func TestBackupWithCopiedBlobs(t *testing.T) {
	srv := s3test.Start(t)
	blobs, store := bucketEnv(t, srv), newBackupStore(t, srv, srv.Endpoint())
	_, name, _ := strings.Cut(blobs[0], "=")
	live := backupStore{srv, name, nil}
	root := t.TempDir()
	dir := filepath.Join(root, "data")
	p := start(t, dir, blobs...)
	o := newOperator(t, dir, append(append(store.env, blobs...), p.port())...)
	alice := p.register("alice")
	for i := range 4 {
		alice.aBlob(t, fmt.Sprint("blob ", i))
	}
	folder, file, at := filepath.Join(root, "backup"), filepath.Join(root, "backup.tar"), "s3://"+store.bucket+"/pds"
	o.fails(0, "without the blobs", "backup", filepath.Join(root, "rows"))
	for _, args := range [][]string{{folder}, {folder}, {"-tar", file}, {at}, {at}} {
		var m struct {
			Blobs, Missing int
			BlobsCopied    bool
			BlobsElsewhere string
		}
		if o.ok(&m, append([]string{"backup", "-copy-blobs"}, args...)...); m.Blobs != 4 || !m.BlobsCopied || m.BlobsElsewhere != "" {
			t.Errorf("%q: %+v", args, m)
		}
	}
	p.interrupt()
	before := live.objects(t, "")
	for i, from := range []string{folder, file, at} {
		o.fails(0, "and 4 blobs", "verify-backup", from)
		disk := filepath.Join(root, fmt.Sprint("disk", i))
		newOperator(t, disk, append(store.env, p.port())...).fails(0, "All is well with 1 account", "restore", from)
		newOperator(t, disk, p.port()).fails(0, "All is well", "check")
		again := filepath.Join(root, fmt.Sprint("bucket", i))
		newOperator(t, again, o.env[3:]...).fails(0, "Do not start it while", "restore", from)
		if _, err := os.Stat(filepath.Join(again, "pds.sqlite.blobs")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder of blobs stayed: %v", err)
		}
		for name := range before {
			if _, ok := live.objects(t, name)[name]; !ok {
				t.Errorf("object %s was deleted", name)
			}
		}
	}
	// The bucket has lost everything.
	objects, err := s3.New(s3.Config{Bucket: name, Endpoint: srv.Endpoint(), ForcePathStyle: true, AccessKeyID: s3test.AccessKeyID, SecretAccessKey: s3test.SecretAccessKey})
	if err != nil {
		t.Fatal(err)
	}
	for name := range live.objects(t, "") {
		if err := objects.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	last := filepath.Join(root, "last")
	r := newOperator(t, last, o.env[3:]...)
	r.fails(0, "All is well with 1 account", "restore", at)
	r.fails(0, "All is well", "check")
	if n := len(live.objects(t, "")); n != 4 {
		t.Errorf("%d objects", n)
	}
}
