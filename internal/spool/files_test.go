package spool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/internal/tempfile/temptest"
)

func over(t *temptest.Temps) *Dir {
	return &Dir{Limit: 64 << 20, Make: func(most int64) (Storage, error) {
		f, err := t.Open(most)
		if err != nil {
			return nil, err
		}
		return f, nil
	}}
}

// A file that cannot be made or written costs time, not bytes; one that cannot be read ends the
// stream with its error. Whichever call fails, everything is closed and given back.
func TestWhicheverCallOfAFileFails(t *testing.T) {
	run := func(t *testing.T, temps *temptest.Temps) error {
		d := over(temps)
		out := &slowWriter{each: time.Millisecond}
		var want [32]byte
		err := Copy(out, Options{Dir: d, Memory: 50_000, Patience: time.Hour}, func(w io.Writer) error {
			for i := range 3 { // with pauses, so that the file is emptied in between
				var b bytes.Buffer
				want = writeRandom(t, &b, 700_000, uint64(i))
				for b.Len() > 0 {
					if _, err := w.Write(b.Next(90_000)); err != nil {
						return err
					}
				}
				time.Sleep(time.Second)
			}
			return nil
		})
		if err == nil && (out.Len() != 2_100_000 || sha256.Sum256(out.Bytes()[1_400_000:]) != want) {
			t.Errorf("call %d failed: the bytes changed on the way", temps.FailAt)
		}
		if d.Used() != 0 {
			t.Errorf("call %d failed: %d bytes are held after the end", temps.FailAt, d.Used())
		}
		temps.Check(t)
		return err
	}
	calls := 0
	synctest.Test(t, func(t *testing.T) {
		good := new(temptest.Temps)
		if err := run(t, good); err != nil {
			t.Fatal(err)
		}
		if calls = good.Calls(); good.Opened() != 1 || calls < 10 {
			t.Fatalf("%d files, %d calls", good.Opened(), calls)
		}
	})
	whole, cut := 0, 0
	for at := 1; at <= calls; at++ {
		synctest.Test(t, func(t *testing.T) {
			for _, broken := range []bool{false, true} {
				switch err := run(t, &temptest.Temps{FailAt: at, Broken: broken}); {
				case err == nil:
					whole++
				case errors.Is(err, temptest.ErrFault) && errors.As(err, new(*FileError)):
					cut++
				default:
					t.Errorf("call %d failed: %v", at, err)
				}
			}
		})
	}
	if whole == 0 || cut == 0 {
		t.Errorf("%d streams were whole, %d ended", whole, cut)
	}
}

// tracked counts what is parked.
type tracked struct{ inside, parked int }

func (p *tracked) park() func() error {
	p.inside--
	p.parked++
	return func() error { p.inside++; return nil }
}

// A writer that is to wait uses no file and little memory, however much there is, and a reader may
// take any time as long as it goes on.
func TestWaitingForASlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		temps := new(temptest.Temps)
		p := tracked{inside: 1}
		out := &slowWriter{each: 5 * time.Second}
		var want [32]byte
		begin := time.Now()
		err := Copy(out, Options{Dir: over(temps), Memory: 300_000, Patience: 30 * time.Second, Wait: true, Park: p.park}, func(w io.Writer) error {
			want = writeRandom(t, w, 10<<20, 4)
			return nil
		})
		if err != nil || sha256.Sum256(out.Bytes()) != want {
			t.Error(err, out.Len())
		}
		if temps.Calls() != 0 || p.inside != 1 || p.parked < 10 || time.Since(begin) < 5*time.Minute {
			t.Error(temps.Calls(), p, time.Since(begin))
		}
	})
}

// A reader that takes nothing does not hold a writer for ever, and leaves it its reason.
func TestWaitingForAStuckReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Dir: over(new(temptest.Temps)), Memory: 1000, Patience: time.Minute, Wait: true})
		begin := time.Now()
		if _, err := p.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write(make([]byte, 1)); !errors.Is(err, ErrFull) || time.Since(begin) != time.Minute {
			t.Error(err, time.Since(begin))
		}
		p.CloseRead()
		if _, err := p.Write(make([]byte, 1)); !errors.Is(err, ErrReaderGone) {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		bad := &temptest.Temps{FailAt: 1}
		p := New(Options{Dir: over(bad), Memory: 1000, Patience: time.Minute})
		if _, err := p.Write(make([]byte, 2000)); err != nil { // to an empty pipe
			t.Fatal(err)
		}
		if _, err := p.Write(make([]byte, 1)); !errors.Is(err, ErrFull) || !errors.Is(err, temptest.ErrFault) {
			t.Error(err)
		}
		p.CloseRead()
		bad.Check(t)
	})
}

// If what a parked writer gave away does not come back, it ends.
func TestParkedWriterThatMayNotGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		var out bytes.Buffer
		err := Copy(&out, Options{
			Dir: &Dir{}, Memory: 10, Patience: time.Minute, Wait: true,
			Park: func() func() error { return func() error { return gone } },
		}, func(w io.Writer) error {
			for {
				if _, err := w.Write(make([]byte, 10)); err != nil {
					return err
				}
			}
		})
		if !errors.Is(err, gone) {
			t.Error(err)
		}
	})
}

// What is read into a file is written in large pieces, counts, and an error of the reader is told as
// it is.
func TestFileReadsFrom(t *testing.T) {
	temps := new(temptest.Temps)
	d := over(temps)
	f, err := d.Create(2 << 20)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("0123456789"), 100_000)
	n, err := f.ReadFrom(io.MultiReader(bytes.NewReader(body), errReader{io.ErrUnexpectedEOF}))
	if n != int64(len(body)) || !errors.Is(err, io.ErrUnexpectedEOF) || d.Used() != n {
		t.Error(n, err, d.Used())
	}
	if calls := temps.Calls(); calls > 6 {
		t.Errorf("%d calls", calls)
	}
	if got, err := io.ReadAll(f.Reader()); err != nil || !bytes.Equal(got, body) {
		t.Error(len(got), err)
	}
	if err := f.Close(); err != nil || d.Used() != 0 {
		t.Error(err, d.Used())
	}
	temps.Check(t)
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
